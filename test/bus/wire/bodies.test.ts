import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Bodies, bodyText } from '../../../bus/wire/bodies.ts'
import { isObject, type Json, sha256 } from '../../../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../../../bus/wire/limits.ts'
import { strangeJson } from '../../support/arbitraries.ts'

const shaOf = (value: Json) => sha256(bodyText(value))
const long = (text: string) => text.repeat(Math.ceil(MESSAGE_LIMITS.partBytesMin / text.length))

/** Splits with one account of bodies, stores what was met as JSON, and joins with another, as a second host would. */
function roundTrip(value: Json): { readonly split: Json; readonly joined: Json; readonly met: ReadonlyMap<string, Json> } {
  const met = new Map<string, Json>()
  const split = new Bodies().split(value, met)
  const reader = new Bodies()
  for (const [sha, body] of met) reader.add(sha, JSON.parse(JSON.stringify(body)) as Json)
  return { split, joined: reader.join(JSON.parse(JSON.stringify(split)) as Json), met }
}

describe('bodies', () => {
  it('come back as they were, for every JSON there is', () => {
    fc.assert(
      fc.property(strangeJson(), (value) => {
        const { joined } = roundTrip(value)
        expect(JSON.stringify(joined)).toBe(JSON.stringify(value))
      }),
      { numRuns: 2_000 },
    )
  })

  it('are named alike by whoever splits the value', () => {
    fc.assert(
      fc.property(strangeJson(), (value) => {
        const [one, two] = [new Map<string, Json>(), new Map<string, Json>()]
        const first = new Bodies().split(value, one)
        const second = new Bodies().split(JSON.parse(JSON.stringify(value)) as Json, two)
        expect(JSON.stringify(first)).toBe(JSON.stringify(second))
        expect([...one.keys()]).toEqual([...two.keys()])
        for (const [sha, body] of one) expect(sha256(bodyText(body))).toBe(sha)
      }),
    )
  })

  it('of one account do not leak into each other', () => {
    fc.assert(
      fc.property(fc.array(strangeJson(), { minLength: 2, maxLength: 6 }), (values) => {
        const bodies = new Bodies()
        const splits = values.map((value) => bodies.split(value, new Map()))
        splits.forEach((split, i) => {
          expect(JSON.stringify(bodies.join(split))).toBe(JSON.stringify(values[i]))
        })
      }),
    )
  })

  const cases: readonly (readonly [string, Json])[] = [
    ['an object that looks like a reference', { $body: 'f'.repeat(64) }],
    ['an object that looks like a reference to a body that is there', [long('a'), { $body: shaOf(long('a')) }]],
    ['a reference that is no text', { $body: { $body: 1 } }],
    ['a reference in a large element', [{ a: { $body: 'x' }, b: long('b') }]],
    ['half a surrogate pair in a long text', long('\ud800')],
    ['half a surrogate pair beside the text of its escape', [long('\ud800'), JSON.stringify(long('\ud800'))]],
    ['half a surrogate pair in a key', [{ '\ud800': long('x') }]],
    ['a prototype for a key', JSON.parse(`{"__proto__":{"a":"${long('p')}"},"constructor":"${long('c')}"}`) as Json],
    ['a prototype in a list', [JSON.parse(`{"__proto__":"${long('p')}"}`) as Json]],
    [
      'the order of keys, which a model reads',
      [
        { b: long('x'), a: 1 },
        { a: 1, b: long('x') },
        { '2': long('n'), '1': 1 },
      ],
    ],
    ['empty things', [{}, [], '', null, { '': '' }]],
  ]
  for (const [what, value] of cases) {
    it(`keep ${what}`, () => expect(JSON.stringify(roundTrip(value).joined)).toBe(JSON.stringify(value)))
  }

  it('leave an ordinary small value as the very object it is', () => {
    const value: Json = { a: [1, 'two', { three: null }] }

    expect(new Bodies().split(value, new Map())).toBe(value)
  })

  it('stand once, however often they come', () => {
    const message = { role: 'user', content: long('hello ') }
    const { met } = roundTrip({ first: [message, message], second: [{ ...message }], third: { said: [message] } })

    expect([...met.keys()]).toEqual([shaOf(message)])
  })

  const large: readonly (readonly [string, Json])[] = [
    ['a long list of numbers', Array.from({ length: 200_000 }, (_, i) => i)],
    ['a long list of short texts', Array.from({ length: 100_000 }, (_, i) => `row ${i}`)],
    ['an object of many small fields', Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`field${i}`, i]))],
    [
      'nested objects without any long text',
      { a: { b: Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, { i }])) } },
    ],
    ['many long keys', Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`${i}${'k'.repeat(300)}`, 1]))],
  ]
  for (const [what, value] of large) {
    it(`take ${what} out of the entry, which could not hold it`, () => {
      const { split, joined } = roundTrip({ kind: 'result', value })

      expect(JSON.stringify(split).length).toBeLessThan(MESSAGE_LIMITS.inlineBytesMax)
      expect(JSON.stringify(joined)).toBe(JSON.stringify({ kind: 'result', value }))
    })
  }

  it('are stored once as part of a larger one, and not beside it as well', () => {
    const value = { text: long('x'), ...Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`field${i}`, i])) }

    expect([...roundTrip({ value }).met.keys()]).toEqual([shaOf(value)])
    const first = roundTrip({ first: long('x'), value })
    expect([...first.met.keys()]).toEqual([shaOf(long('x')), shaOf(value)])
  })

  it('that are references already stay a list of references, however long it is', () => {
    const said = Array.from({ length: 2_000 }, (_, i) => ({ role: 'user', content: `${i} ${long('words ')}` }))
    const { split, met } = roundTrip(said)

    expect(met.size).toBe(2_000)
    expect(Array.isArray(split)).toBe(true)
  })

  it('that are missing or changed are an error, not a guess', () => {
    const bodies = new Bodies()

    expect(() => bodies.join({ a: [{ $body: 'f'.repeat(64) }] })).toThrow(/"f{64}" is not in the journal/)
    expect(() => bodies.add(shaOf('one'), 'two')).toThrow(/was changed after it was stored/)
  })

  it('count as stored only since the last snapshot', () => {
    const bodies = new Bodies()
    bodies.markStored(['a', 'b'], false)
    bodies.markStored(['c'], true)
    bodies.markStored(['d'], false)

    expect(['a', 'b', 'c', 'd'].filter((sha) => bodies.isStored(sha))).toEqual(['c', 'd'])
  })

  it('never take a value for an object when it is a list', () => {
    expect(isObject([])).toBe(false)
    expect(isObject(null)).toBe(false)
  })
})
