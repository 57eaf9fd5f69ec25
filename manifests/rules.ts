/** Rules between fields of one object, which no single field can check. */
import type { z } from 'zod'

export interface Rule<Value> {
  /** Dotted paths of the fields that the rule looks at; a mistake is reported at the first. The rule waits until all are sound. */
  readonly fields: readonly [string, ...string[]]
  /** What is allowed, when the rule is broken. */
  readonly check: (value: Value) => string | undefined
}

/** The schema with rules that are checked even when other fields of the object are wrong, so that all mistakes are seen at once. */
export function withRules<Schema extends z.ZodObject>(schema: Schema, rules: readonly Rule<z.output<Schema>>[]): Schema {
  return schema.superRefine(
    (value, context) => {
      const wrong = context.issues
        .filter((issue) => issue.code !== 'unrecognized_keys')
        .map((issue) => (issue.path ?? []).join('.'))
      for (const { fields, check } of rules) {
        if (fields.some((field) => wrong.some((path) => overlaps(path, field)))) continue
        const allowed = check(value)
        if (allowed !== undefined) context.addIssue({ code: 'custom', path: fields[0].split('.'), message: allowed })
      }
    },
    { when: ({ value }) => typeof value === 'object' && value !== null && !Array.isArray(value) },
  )
}

function overlaps(a: string, b: string): boolean {
  return a === b || a.startsWith(`${b}.`) || b.startsWith(`${a}.`)
}
