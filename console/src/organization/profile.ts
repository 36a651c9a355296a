import type { Schemas } from '../api/client';
import type { Fields } from '../ui/draft';

/** What a company's own people may change, as the form calls it. */
export const LABELS = {
  name: 'Company name',
  legal_name: 'Legal name',
  industry: 'Industry',
  company_size: 'Company size',
  contact_name: 'Contact',
  contact_email: 'Contact’s address',
  phone: 'Phone',
  billing_email: 'Invoices go to',
  address_line1: 'Street',
  address_line2: 'Building, floor',
  city: 'City',
  state_province: 'State or province',
  postal_code: 'Postal code',
  country: 'Country',
} as const;

export type ProfileField = keyof typeof LABELS;
export const FIELDS = Object.keys(LABELS) as ProfileField[];

export const INDUSTRIES = [
  'Manufacturing',
  'Agriculture',
  'Healthcare',
  'Energy & Utilities',
  'Logistics',
  'Retail',
  'Smart Buildings',
  'Technology',
  'Other',
];
export const SIZES = ['1-10', '11-50', '51-200', '201-500', '501-1000', '1000+'];

/** The profile as a form has it: empty text for none. */
export function fields(of: Schemas['Organization']): Fields {
  return Object.fromEntries(FIELDS.map((name) => [name, of[name] ?? '']));
}
