/** Rules between fields of one object, which no single field can check: each once for files that are loaded here, and once for the API server. */
import type { z } from 'zod'

interface About {
  /** Dotted paths of the fields that the rule looks at; a mistake is reported at the first. The rule waits until all are sound. */
  readonly fields: readonly [string, ...string[]]
}

/** The two tellings stand side by side; a test feeds both the same examples. */
export interface Rule<Value> extends About {
  /** What is allowed, when the rule is broken: the same words here and from `kubectl apply`. */
  readonly allowed: string
  readonly holds: (value: Value) => boolean
  /** The same in CEL, where `self` is the object with its defaults. Asking a field that is absent is an error there: `has(self.x)` first. */
  readonly cel: string
  /** In the words of the Kubernetes API. Default: FieldValueInvalid. */
  readonly reason?: 'FieldValueInvalid' | 'FieldValueRequired' | 'FieldValueForbidden'
  /** Where below the object a mistake is reported here, if not at the first field: CEL can name no element of a list. */
  readonly place?: (value: Value) => readonly PropertyKey[]
}

/** A rule that CEL has no words for: the API server accepts what breaks it, and the operator says so in the status. */
export interface RuleBeyondCel<Value> extends About {
  /** What is allowed, when the rule is broken. */
  readonly check: (value: Value) => string | undefined
}

/** The schema with rules that are checked even when other fields of the object are wrong, so that all mistakes are seen at once. */
export function withRules<Schema extends z.ZodObject>(
  schema: Schema,
  rules: readonly (Rule<z.output<Schema>> | RuleBeyondCel<z.output<Schema>>)[],
): Schema {
  const told = rules.filter((rule) => 'cel' in rule)
  return schema
    .superRefine(
      (value, context) => {
        const wrong = context.issues
          .filter((issue) => issue.code !== 'unrecognized_keys')
          .map((issue) => (issue.path ?? []).join('.'))
        for (const rule of rules) {
          if (rule.fields.some((field) => wrong.some((path) => overlaps(path, field)))) continue
          const allowed = 'check' in rule ? rule.check(value) : rule.holds(value) ? undefined : rule.allowed
          const path = ('place' in rule && rule.place?.(value)) || rule.fields[0].split('.')
          if (allowed !== undefined) context.addIssue({ code: 'custom', path: [...path], message: allowed })
        }
      },
      { when: ({ value }) => typeof value === 'object' && value !== null && !Array.isArray(value) },
    )
    .meta({
      'x-kubernetes-validations': told.map(({ cel, allowed, fields, reason = 'FieldValueInvalid' }) => ({
        rule: cel,
        message: messageOf(allowed, reason),
        fieldPath: `.${fields[0]}`,
        reason,
      })),
    })
}

/** CEL for "two objects have the same fields": the API server gives each place in a schema a type of its own, which `==` does not compare. */
export function equalInCel(one: string, other: string, fields: readonly string[]): string {
  return fields
    .map(
      (field) =>
        `(has(${one}.${field}) ? has(${other}.${field}) && ${one}.${field} == ${other}.${field} : !has(${other}.${field}))`,
    )
    .join(' && ')
}

/** The server puts "Required value: " or "Forbidden: " before the words; "Invalid value: " alone would read as if they were the value. */
function messageOf(allowed: string, reason: string): string {
  return reason === 'FieldValueInvalid' ? `allowed: ${allowed}` : allowed
}

function overlaps(a: string, b: string): boolean {
  return a === b || a.startsWith(`${b}.`) || b.startsWith(`${a}.`)
}
