import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  checkName,
  depthOf,
  effectId,
  entryId,
  isName,
  isRootTask,
  isTaskId,
  keyOf,
  keyOfCause,
  parseEffectId,
  parseRootTask,
  rootTaskId,
  spanIdOf,
} from '../../../bus/wire/ids.ts'
import { effectOf, name, taskOf } from '../../support/arbitraries.ts'

describe('a name', () => {
  for (const text of ['a', '0', 'a-b', 'a--b', 'x1', 'a'.repeat(40)]) {
    it(`may be "${text}"`, () => expect(isName(text)).toBe(true))
  }
  for (const text of ['', '-', 'a-', '-a', 'A', 'a_b', 'a.b', 'a b', 'ä', 'a\n', 'a'.repeat(41), '*', '>', 'a\u0000']) {
    it(`may not be ${JSON.stringify(text)}`, () => expect(isName(text)).toBe(false))
  }

  it('that is wrong is refused with its value and its use', () => {
    expect(() => checkName('No!', 'agent')).toThrow(/agent "No!" is not a DNS label/)
    expect(checkName('yes', 'agent')).toBe('yes')
  })
})

describe('the key of a root task', () => {
  it('is the id itself where that fits a subject', () => {
    expect(keyOf('default', 'a', 'order-17')).toBe('order-17')
  })

  const weird = [
    '',
    ' ',
    'Order 17',
    'ORDER',
    'a.b',
    '*',
    '>',
    'ünïcode',
    '😀',
    '../../etc',
    'a\r\nNats-Rollup: all',
    '\u0000',
    'a_b',
    'x'.repeat(41),
    'x'.repeat(1_000_000),
  ]
  for (const id of weird) {
    it(`is a name for the id ${JSON.stringify(id.slice(0, 40))} of ${id.length} characters`, () => {
      const key = keyOf('default', 'a', id)

      expect(key).toMatch(/^h[a-z2-7]{26}$/)
      expect(isName(key)).toBe(true)
      expect(keyOf('default', 'a', id)).toBe(key)
      expect(keyOf('default', 'a', key)).toBe(key)
      expect(keyOf('default', 'b', id)).not.toBe(key)
      expect(keyOf('other', 'a', id)).not.toBe(key)
    })
  }

  it('differs for ids that differ, whatever they are', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (one, two) => {
        if (one === two) return
        expect(keyOf('default', 'a', one)).not.toBe(keyOf('default', 'a', two))
      }),
    )
  })

  it('without an id follows from the cause', () => {
    expect(keyOfCause('default', 'a', '7-1')).toMatch(/^t[a-z2-7]{26}$/)
    expect(keyOfCause('default', 'a', '7-1')).not.toBe(keyOfCause('default', 'a', '7-2'))
  })

  it('is kept by an id that is known: what a redrive sends finds the same journal', () => {
    // 26 base32 characters of sha256("default\na\nOrder 17"); a change here orphans every task that is under way.
    expect(keyOf('default', 'a', 'Order 17')).toBe('hofbsfr3fntpwxgykp4blnk34r2')
  })
})

describe('positions', () => {
  it('read back as they were written, however deep they are nested', () => {
    fc.assert(
      fc.property(taskOf(), fc.nat(999_999_999), fc.nat(999_999), (task, n, k) => {
        const effect = effectId(task, n, k)

        expect(parseEffectId(effect)).toEqual({ task, n, k })
        expect(isTaskId(effect)).toBe(true)
        expect(isTaskId(task)).toBe(true)
        expect(depthOf(effect)).toBe(depthOf(task) + 1)
        expect(isRootTask(effect)).toBe(false)
        // An entry id is neither a task nor an effect.
        expect(parseEffectId(entryId(task, n))).toBeUndefined()
        expect(isTaskId(entryId(task, n))).toBe(false)
      }),
    )
  })

  it('never take a root task for an effect', () => {
    fc.assert(
      fc.property(name(), name(), (agent, key) => {
        const task = rootTaskId(agent, key)
        expect(parseEffectId(task)).toBeUndefined()
        expect(isRootTask(task)).toBe(true)
        expect(depthOf(task)).toBe(0)
        expect(parseRootTask(task)).toEqual({ agent, key })
      }),
    )
    for (const task of ['a_1-2', 'a_0-0', '1_1-1', '1-2_3-4']) expect(parseEffectId(task), task).toBeUndefined()
    expect(parseEffectId('a_1-2_3-4')).toEqual({ task: 'a_1-2', n: 3, k: 4 })
  })

  it('of the deepest child still name the root', () => {
    fc.assert(
      fc.property(name(), name(), fc.array(fc.tuple(fc.nat(999), fc.nat(99)), { maxLength: 32 }), (agent, key, steps) => {
        const task = steps.reduce((at, [n, k]) => effectId(at, n, k), rootTaskId(agent, key))
        expect(parseRootTask(task)).toEqual({ agent, key })
        expect(depthOf(task)).toBe(steps.length)
      }),
    )
  })

  const garbage = [
    '',
    '_',
    '__',
    'a',
    'a_',
    '_b',
    'a_b_',
    'a_b_1',
    'a_b_1-',
    'a_b_-1',
    'a_b_1-2_',
    'a_b_1-2_3',
    'a_b_1-2-3',
    'a_b_1--2',
    'A_b_1-2',
    'a_b_1-2 ',
    'a_b_1-2\n',
    'a_b_1-2.x',
    'a_b_*-2',
    'a_b_１-2',
    'a-_b_1-2',
    'a_b-_1-2',
    '-a_b_1-2',
    'a_b_1e3-2',
    // No two texts for one position: what is pending is looked up by its text.
    'a_b_01-2',
    'a_b_1-02',
    'a_b_00-0',
    'a_b_1234567890-1',
    'a_b_1-1234567',
    `${'a'.repeat(41)}_b_1-2`,
    `a_${'b'.repeat(41)}_1-2`,
  ]
  for (const text of garbage) {
    it(`are not read from ${JSON.stringify(text.slice(0, 50))}`, () => expect(parseEffectId(text)).toBeUndefined())
  }

  it('are refused in time that grows with their length only', () => {
    const begunAt = performance.now()
    for (const text of ['_'.repeat(200_000), `a_b${'_1'.repeat(100_000)}`, `a_b${'_1-1'.repeat(50_000)}x`])
      expect(parseEffectId(text)).toBeUndefined()
    expect(performance.now() - begunAt).toBeLessThan(3_000)
  })

  it('give spans of their own', () => {
    const traceId = '0af7651916cd43dd8448eb211c80319c'
    fc.assert(
      fc.property(effectOf(), effectOf(), (one, two) => {
        expect(spanIdOf(traceId, one)).toMatch(/^[0-9a-f]{16}$/)
        if (one !== two) expect(spanIdOf(traceId, one)).not.toBe(spanIdOf(traceId, two))
      }),
    )
  })
})
