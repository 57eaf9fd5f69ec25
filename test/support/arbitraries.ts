/** What fast-check may make up: names, ids, JSON as strange as it can be. */
import fc from 'fast-check'
import { effectId, rootTaskId } from '../../bus/wire/ids.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { Party } from '../../bus/wire/subjects.ts'

export function name(): fc.Arbitrary<string> {
  return fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$/)
}

export function party(): fc.Arbitrary<Party> {
  return fc.record({ kind: fc.constantFrom('agent' as const, 'tool' as const, 'user' as const), name: name() })
}

/** A root task or a child of any depth. */
export function taskOf(): fc.Arbitrary<string> {
  return fc
    .tuple(name(), name(), fc.array(fc.tuple(fc.nat(9_999), fc.nat(99)), { maxLength: 8 }))
    .map(([agent, key, steps]) => steps.reduce((task, [n, k]) => effectId(task, n, k), rootTaskId(agent, key)))
}

export function effectOf(): fc.Arbitrary<string> {
  return fc.tuple(taskOf(), fc.nat(9_999), fc.nat(99)).map(([task, n, k]) => effectId(task, n, k))
}

/** UTF-16 as JavaScript allows it: also half a surrogate pair. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 12 }).map((units) => String.fromCharCode(...units)),
  fc.constantFrom('\ud800', '"\\ud800"', '\udfff\ud800', '\u0000', '__proto__', '$body'),
)
const longText = fc.tuple(anyText, fc.integer({ min: 200, max: 600 })).map(([text, length]) => text.padEnd(length, text || 'x'))

/** JSON with everything that was ever mistaken for something else: keys of prototypes, keys of ours, lone surrogates, long texts. */
export function strangeJson(): fc.Arbitrary<Json> {
  const key = fc.oneof(
    {
      weight: 2,
      arbitrary: fc.constantFrom('$body', '$blob', '__proto__', 'constructor', 'toString', 'toJSON', 'snapshot', 'seal', '0', ''),
    },
    { weight: 3, arbitrary: anyText },
  )
  const { json } = fc.letrec<{ json: Json }>((tie) => ({
    json: fc.oneof(
      { maxDepth: 5, withCrossShrink: true },
      fc.constantFrom<Json>(null, true, false, 0, 1.5, 1e21, -7),
      anyText,
      longText,
      fc.array(tie('json'), { maxLength: 6 }),
      fc.array(fc.tuple(key, tie('json')), { maxLength: 6 }).map((pairs) => fromPairs(pairs)),
    ),
  }))
  return json
}

/** As JSON.parse would make it: every key is the object's own, `__proto__` too. */
function fromPairs(pairs: readonly (readonly [string, Json])[]): Json {
  const value: { [key: string]: Json } = {}
  for (const [key, field] of pairs)
    Object.defineProperty(value, key, { value: field, enumerable: true, configurable: true, writable: true })
  return value
}
