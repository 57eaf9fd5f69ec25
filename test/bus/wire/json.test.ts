import canonicalize from 'canonicalize'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalText, hashOf, type Json } from '../../../bus/wire/json.ts'
import { strangeJson } from '../../support/arbitraries.ts'

describe('canonical text', () => {
  it('is that of RFC 8785', () => {
    expect(canonicalText({ b: [1e21, 1.0, -0, 1e-7], a: '€\u000f\n"\\', '\u20ac': null, '1': true })).toBe(
      '{"1":true,"a":"€\\u000f\\n\\"\\\\","b":[1e+21,1,0,1e-7],"€":null}',
    )
  })

  it('does not depend on the order of keys', () => {
    expect(canonicalText({ a: 1, b: { d: 2, c: 3 } })).toBe(canonicalText({ b: { c: 3, d: 2 }, a: 1 }))
  })

  it('leaves out fields that are undefined', () => {
    expect(canonicalText({ a: undefined, b: 1 })).toBe('{"b":1}')
    expect(canonicalText(undefined)).toBe('null')
  })

  it('is JSON from which the same value comes back, whatever it is', () => {
    fc.assert(
      fc.property(strangeJson(), (value) => {
        expect(JSON.stringify(JSON.parse(canonicalText(value)))).toBe(JSON.stringify(JSON.parse(sortedText(value))))
      }),
      { numRuns: 500 },
    )
  })

  it('is what the reference implementation writes, by whichever way it is made', () => {
    const key = fc.oneof(fc.string(), fc.constantFrom('10', '9', '1a', '', '__proto__', 'toJSON', 'constructor', '\u20ac'))
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom(null, true, 'half', -0, 1e21),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.string({ unit: 'grapheme' }),
        fc.array(tie('value')),
        fc.dictionary(key, tie('value')),
      ),
    }))

    fc.assert(
      fc.property(value, (json) => {
        expect(canonicalText(json)).toBe(canonicalize(json))
      }),
      { numRuns: 1_000 },
    )
  })

  const pairs: readonly (readonly [string, Json, Json])[] = [
    ['half a surrogate pair and the text of its escape', '\ud800', JSON.stringify('\ud800')],
    ['two different halves', '\ud800', '\udfff'],
    ['halves in keys', { '\ud800': 1 }, { '\udfff': 1 }],
    ['a half and the replacement character', '\ud800', '\ufffd'],
    ['a key of a prototype and no key', JSON.parse('{"__proto__":1}') as Json, {}],
    ['null and nothing', [null], []],
    ['1 and "1"', 1, '1'],
  ]
  for (const [what, one, two] of pairs) {
    it(`tells ${what} apart`, () => expect(hashOf(one)).not.toBe(hashOf(two)))
  }

  it('survives a depth at which recursion would not', () => {
    let deep: Json = 'x'
    for (let i = 0; i < 20_000; i++) deep = [deep]

    expect(canonicalText(deep)).toHaveLength(40_003)
  })
})

/** The value with its keys in order, by JSON.stringify alone: an independent way to the same value. */
function sortedText(value: Json): string {
  if (Array.isArray(value)) return `[${value.map((element: Json) => sortedText(element)).join(',')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  const fields = Object.entries(value as { [key: string]: Json })
  fields.sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([key, field]) => `${JSON.stringify(key)}:${sortedText(field)}`).join(',')}}`
}
