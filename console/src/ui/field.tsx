import { type ReactNode, useId } from 'react';
import type { Refusal } from '../api/problem';

/** What the schema says of a field (`constraints.gen.ts`). */
interface Constraint {
  required?: boolean;
  maxLength?: number;
  pattern?: string;
  min?: number;
  max?: number;
}

interface FieldProps {
  /** The API's name of the field: its errors find it by that. */
  name: string;
  label: string;
  value: string;
  onChange: (value: string) => void;
  of?: Constraint | undefined;
  hint?: ReactNode;
  type?: 'text' | 'email' | 'tel' | 'number';
  /** Suggestions; anything else may be typed too. */
  suggestions?: readonly string[];
  refusal?: Refusal | null | undefined;
  autoComplete?: string;
  wide?: boolean;
  required?: boolean;
}

/** The message of a 422 for this field. */
export const wrong = (refusal: Refusal | null | undefined, name: string) =>
  refusal?.errors.find((error) => error.field === name)?.message;

/** A labelled input; its hint and its fault are tied to it. */
export function Field(props: FieldProps) {
  const { name, label, value, onChange, of, hint, suggestions, refusal } = props;
  const list = useId();
  const message = wrong(refusal, name);
  const described = [hint ? `${name}-hint` : '', message ? `${name}-wrong` : ''].join(' ').trim();
  const required = props.required ?? of?.required ?? false;
  return (
    <div className={props.wide ? 'field wide' : 'field'}>
      <label htmlFor={name}>
        {label}
        {required ? <span className="quiet small"> (required)</span> : null}
      </label>
      <input
        id={name}
        name={name}
        type={props.type ?? 'text'}
        value={value}
        onChange={(event) => onChange(event.target.value)}
        required={required}
        maxLength={of?.maxLength}
        pattern={of?.pattern}
        min={of?.min}
        max={of?.max}
        list={suggestions ? list : undefined}
        autoComplete={props.autoComplete ?? 'off'}
        aria-invalid={message ? true : undefined}
        aria-describedby={described || undefined}
      />
      {suggestions ? (
        <datalist id={list}>
          {suggestions.map((text) => (
            <option key={text} value={text} />
          ))}
        </datalist>
      ) : null}
      {hint ? (
        <span className="hint" id={`${name}-hint`}>
          {hint}
        </span>
      ) : null}
      {message ? (
        <span className="wrong" id={`${name}-wrong`}>
          {label} {message}
        </span>
      ) : null}
    </div>
  );
}

interface SelectProps {
  name: string;
  label: string;
  value: string;
  onChange: (value: string) => void;
  options: readonly { value: string; label: string }[];
}

export function Select({ name, label, value, onChange, options }: SelectProps) {
  return (
    <div className="field">
      <label htmlFor={name}>{label}</label>
      <select id={name} value={value} onChange={(event) => onChange(event.target.value)}>
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
          </option>
        ))}
      </select>
    </div>
  );
}
