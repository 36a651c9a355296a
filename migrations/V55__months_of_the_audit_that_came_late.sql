-- Where no partition was made for a month, because no hourly run came for a year, its rows are in
-- subscription_audit_other. They stay there, and so do those that follow: a partition of that month
-- would contradict them, and its failure kept those of later months from being made.
CREATE OR REPLACE FUNCTION ensure_audit_partitions(months integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    this_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    begins     timestamptz;
    ends       timestamptz;
    partition  text;
BEGIN
    FOR i IN 0..months LOOP
        begins := (this_month + make_interval(months => i)) AT TIME ZONE 'UTC';
        ends := (this_month + make_interval(months => i + 1)) AT TIME ZONE 'UTC';
        partition := 'subscription_audit_' || to_char(begins AT TIME ZONE 'UTC', 'YYYY_MM');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL OR EXISTS (
            SELECT FROM subscription_audit_other
            WHERE event_timestamp >= begins AND event_timestamp < ends);
        EXECUTE format('CREATE TABLE %I PARTITION OF subscription_audit FOR VALUES FROM (%L) TO (%L)',
            partition, begins, ends);
        EXECUTE format('CREATE TRIGGER audit_stays BEFORE TRUNCATE ON %I FOR EACH STATEMENT
            EXECUTE FUNCTION audit_is_append_only()', partition);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', partition);
    END LOOP;
END
$$;
