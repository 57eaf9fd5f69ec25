import { describe, expect, it } from 'vitest'
import type { Json } from '../../bus/wire/json.ts'
import { firstDifference } from '../../replay/difference.ts'

describe('the first difference', () => {
  const cases: readonly (readonly [string, Json, Json, object | undefined])[] = [
    ['is none between equal values', { a: [1, { b: 'x' }] }, { a: [1, { b: 'x' }] }, undefined],
    ['is none between other orders of keys', { a: 1, b: 2 }, { b: 2, a: 1 }, undefined],
    ['names where it is', { a: [{ b: 1 }, { b: 2 }] }, { a: [{ b: 1 }, { b: 3 }] }, { path: 'a[1].b', recorded: '2', got: '3' }],
    ['quotes keys that need it', { 'x y': 1 }, { 'x y': 2 }, { path: '["x y"]' }],
    ['names what is not there any more', [1, 2], [1], { path: '[1]', recorded: '2', got: '(nothing)' }],
    ['names what is new', {}, { a: { b: 1 } }, { path: 'a', recorded: '(nothing)', got: '{"b":1}' }],
    ['tells null from nothing', { a: null }, {}, { path: 'a', recorded: 'null', got: '(nothing)' }],
    ['shows the changed line of a text', 'one\ntwo\nthree', 'one\n2\nthree', { path: '', recorded: 'two', got: '2' }],
    ['shows a line that was added', 'one', 'one\ntwo', { recorded: '(nothing)', got: 'two' }],
  ]
  for (const [title, recorded, got, expected] of cases) {
    it(title, () => {
      const found = firstDifference(recorded, got)
      if (expected) expect(found).toMatchObject(expected)
      else expect(found).toBeUndefined()
    })
  }

  it('takes a field that is undefined for none', () => {
    expect(firstDifference({ a: 1 }, { a: 1, b: undefined } as never)).toBeUndefined()
  })

  it('shows only what is around the change in a long line', () => {
    const [before, after] = ['a'.repeat(5_000), 'b'.repeat(5_000)]

    const found = firstDifference(`${before}1${after}`, `${before}2${after}`)!

    expect(found.recorded).toMatch(/^…a+1b+…$/)
    expect(found.got).toMatch(/^…a+2b+…$/)
    expect(found.got.length).toBeLessThanOrEqual(202)
  })
})
