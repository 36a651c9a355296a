import { useQuery, useQueryClient } from '@tanstack/react-query';
import { api, ifMatch, type Schemas, take } from '../api/client';
import { OrganizationUpdate } from '../api/constraints.gen';
import { Button } from '../ui/button';
import { Field } from '../ui/field';
import { Notice, Page, Skeleton } from '../ui/page';
import { Problem } from '../ui/problem';
import { changed, useSave } from '../ui/save';
import { Time } from '../ui/time';
import { say } from '../ui/toast';
import { fields, INDUSTRIES, LABELS, type ProfileField, SIZES } from './profile';
import { organization } from './queries';

/** The profile of the own company. */
export function OrganizationPage() {
  const company = useQuery(organization);
  return (
    <Page
      title="Organization"
      lead="Who your company is, and where invoices and notices go."
      narrow
    >
      {company.isPending ? <Skeleton height={480} /> : null}
      {company.isError ? (
        <Problem
          error={company.error}
          tried="The profile could not be read"
          retry={() => void company.refetch()}
        />
      ) : null}
      {company.data ? (
        <>
          <Form company={company.data} />
          <Ours company={company.data} />
        </>
      ) : null}
    </Page>
  );
}

function Form({ company }: { company: Schemas['Organization'] }) {
  const client = useQueryClient();
  const { draft, busy, refusal, submit, discard, dialog } = useSave({
    name: 'organization',
    saved: company,
    fields,
    labels: LABELS,
    put: (version, base, now) =>
      take(
        api.PUT('/api/v1/customer/organization', {
          params: { header: ifMatch(version) },
          body: changed(base, now) as Schemas['OrganizationUpdate'],
        }),
      ),
    read: () => take(api.GET('/api/v1/customer/organization')),
    onSaved: (now) => {
      client.setQueryData(organization.queryKey, now);
      say('The profile is saved.');
    },
  });
  const input = (name: ProfileField, more: Partial<Parameters<typeof Field>[0]> = {}) => (
    <Field
      name={name}
      label={LABELS[name]}
      value={draft.fields[name] ?? ''}
      onChange={(value) => draft.set(name, value)}
      of={OrganizationUpdate[name]}
      refusal={refusal}
      {...more}
    />
  );
  return (
    <form
      className="stack"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {draft.restored ? (
        <Notice tone="info" title="Your unsaved changes are back">
          They were typed before this page was left.
        </Notice>
      ) : null}
      {refusal ? <Problem error={refusal} tried="The profile was not saved" /> : null}
      <section className="card stack" aria-labelledby="company">
        <h2 id="company">Company</h2>
        <div className="fields">
          {input('name', { required: true, autoComplete: 'organization' })}
          {input('legal_name')}
          {input('industry', { suggestions: INDUSTRIES })}
          {input('company_size', { suggestions: SIZES })}
        </div>
      </section>
      <section className="card stack" aria-labelledby="contact">
        <h2 id="contact">Contact</h2>
        <div className="fields">
          {input('contact_name', { autoComplete: 'name' })}
          {input('contact_email', { type: 'email', autoComplete: 'email' })}
          {input('phone', { type: 'tel', autoComplete: 'tel' })}
          {input('billing_email', {
            type: 'email',
            hint: 'Stripe sends invoices and receipts to this address.',
          })}
        </div>
      </section>
      <section className="card stack" aria-labelledby="address">
        <h2 id="address">Address</h2>
        <div className="fields">
          {input('address_line1', { autoComplete: 'address-line1', wide: true })}
          {input('address_line2', { autoComplete: 'address-line2', wide: true })}
          {input('postal_code', { autoComplete: 'postal-code' })}
          {input('city', { autoComplete: 'address-level2' })}
          {input('state_province', { autoComplete: 'address-level1' })}
          {input('country', { autoComplete: 'country' })}
        </div>
      </section>
      <div className="row">
        <Button
          type="submit"
          look="primary"
          busy={busy}
          because={draft.dirty ? null : 'Nothing was changed'}
        >
          Save
        </Button>
        {draft.dirty ? <Button onClick={discard}>Discard changes</Button> : null}
      </div>
      {dialog}
    </form>
  );
}

/** What only an operator changes, and why. */
function Ours({ company }: { company: Schemas['Organization'] }) {
  return (
    <section className="card stack tight" aria-labelledby="ours">
      <h2 id="ours">Set by support</h2>
      <p className="quiet">
        These belong to your contract, or would move your data. Ask support to change them.
      </p>
      <dl className="facts">
        <dt>Support</dt>
        <dd style={{ textTransform: 'capitalize' }}>{company.support_tier}</dd>
        <dt>Service level</dt>
        <dd>{company.sla_level ? `${company.sla_level} %` : 'None was agreed'}</dd>
        <dt>Data is kept in</dt>
        <dd>{company.data_residency_region ?? 'No region was agreed'}</dd>
        <dt>Account</dt>
        <dd>{company.status === 'ACTIVE' ? 'Active' : 'Closed'}</dd>
        <dt>Pays through</dt>
        <dd>{company.billing_linked ? 'Stripe' : 'Invoice'}</dd>
        <dt>Customer since</dt>
        <dd>
          <Time at={company.created_at} as="day" />
        </dd>
        <dt>Id</dt>
        <dd className="mono">{company.tenant_id}</dd>
      </dl>
    </section>
  );
}
