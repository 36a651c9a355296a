-- Names are found whatever their case and accents, and alike on every locale of the database: what depends on one names its collation,
-- pg_unicode_fast, which is the server's own and needs neither ICU nor the system's locales (docs/data.md, "Text").

-- The words of a text, in lower case and without accents. NFKD separates letters from accents; the rest are letters of their own that people
-- type as these. A word is cut, because a lexeme has a limit of its own.
CREATE FUNCTION folded_words(typed text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT left(word, 100)
    FROM regexp_split_to_table(
        replace(replace(replace(translate(
            lower(regexp_replace(normalize(typed, NFKD) COLLATE pg_unicode_fast, '[\u0300-\u036f]', '', 'g')),
            'øłđıς', 'oldiσ'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'),
        '[^[:alnum:]]+') AS words (word)
    WHERE word <> '';
END;

-- What a search looks into.
CREATE FUNCTION search_words(typed text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT array_to_tsvector(coalesce(array_agg(DISTINCT word), '{}')) FROM folded_words(typed) AS words (word);
END;

-- What it looks for: each word as the beginning of one. Null where nothing was typed that can be found; words have letters and digits only,
-- so none of them is an operator.
CREATE FUNCTION search_query(typed text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT string_agg('''' || word || ''':*', ' & ')::tsquery FROM folded_words(typed) AS words (word);
END;

CREATE INDEX tenants_search ON tenants USING gin (search_words(tenant_id || ' ' || name || ' ' || coalesce(legal_name, '')));
DROP INDEX tenants_words;

-- Mail addresses too.
CREATE INDEX tenants_contact_email_folded ON tenants (lower(contact_email COLLATE pg_unicode_fast));
CREATE INDEX tenants_billing_email_folded ON tenants (lower(billing_email COLLATE pg_unicode_fast));
DROP INDEX tenants_contact_email, tenants_billing_email;
