import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addUsage, type Entry, NO_USAGE, openEntry, sealEntry } from '../../../bus/wire/entry.ts'
import { strangeJson } from '../../support/arbitraries.ts'

function entry(n: number, fields: Partial<Entry> = {}): Entry {
  return {
    n,
    at: 1_700_000_000_000 + n,
    cause: `a_k_${n}`,
    delivery: `${n}-1`,
    input: { kind: 'signal', id: `s${n}`, name: 'go', data: null },
    commands: [{ kind: 'start', effect: 'model', as: 'model', input: { text: 'Grüße "🌍"' } }],
    machine: 'agent@0123456789abcdef',
    state: 'f'.repeat(64),
    ...fields,
  }
}

/** A chain of sealed entries. */
function chain(entries: readonly Entry[]): { readonly text: string; readonly seal: string }[] {
  let previous = ''
  return entries.map((one) => {
    const sealed = sealEntry(one, previous)
    previous = sealed.seal
    return sealed
  })
}

describe('a sealed entry', () => {
  it('reads back as it was written, whatever is in it', () => {
    fc.assert(
      fc.property(strangeJson(), strangeJson(), (data, input) => {
        const written = entry(0, {
          input: { kind: 'signal', id: 's', name: 'go', data },
          commands: [{ kind: 'start', effect: 'e', as: 'e', input }],
        })
        const { text, seal } = sealEntry(written, 'before')
        const opened = openEntry(text, 'before', 'entry 0')
        expect(opened.seal).toBe(seal)
        expect(JSON.stringify(opened.entry)).toBe(JSON.stringify(written))
      }),
    )
  })

  it('detects every byte that was changed, taken out or put in', () => {
    const sealed = sealEntry(entry(3), 'e'.repeat(64)).text
    fc.assert(
      fc.property(
        fc.nat(sealed.length - 1),
        fc.string({ minLength: 1, maxLength: 2 }),
        fc.constantFrom(0, 1, 2),
        (at, put, cut) => {
          const changed = sealed.slice(0, at) + put + sealed.slice(at + cut)
          if (changed === sealed) return
          expect(() => openEntry(changed, 'e'.repeat(64), 'entry 3')).toThrow(/entry 3 (has no seal|does not match its seal)/)
        },
      ),
      { numRuns: 2_000 },
    )
    for (let at = 0; at < sealed.length; at++) {
      const changed = sealed.slice(0, at) + sealed.slice(at + 1)
      expect(() => openEntry(changed, 'e'.repeat(64), 'entry 3'), `without character ${at}`).toThrow(/entry 3/)
    }
  })

  it('holds its place: an entry that was left out, swapped or repeated breaks the chain', () => {
    const [zero, one, two] = chain([entry(0), entry(1), entry(2)])

    expect(openEntry(two!.text, one!.seal, 'entry 2').entry.n).toBe(2)
    for (const before of [zero!.seal, two!.seal, ''])
      expect(() => openEntry(two!.text, before, 'entry 2')).toThrow(/does not match/)
  })

  it('cannot be made longer behind its seal', () => {
    const { text } = sealEntry(entry(0), '')

    for (const more of ['\n', ' ', '{}', `,"seal":"${'0'.repeat(64)}"}`])
      expect(() => openEntry(text + more, '', 'entry 0'), more).toThrow(/entry 0/)
  })

  it('that carries a field named seal is not mistaken for its end', () => {
    const tricky = entry(0, { commands: [{ kind: 'emit', event: { seal: 'f'.repeat(64) } }] })
    const { text } = sealEntry(tricky, '')

    expect(openEntry(text, '', 'entry 0').entry.commands).toEqual(tricky.commands)
  })

  for (const [what, text] of [
    ['is empty', ''],
    ['is no JSON', `nonsense,"seal":"${'0'.repeat(64)}"}`],
    ['is no object', `1,"seal":"${'0'.repeat(64)}"}`],
    ['lacks its fields', `{"n":1,"seal":"${'0'.repeat(64)}"}`],
    [
      'has an input of no kind',
      `${JSON.stringify({ ...entry(0), input: { kind: 'other' } }).slice(0, -1)},"seal":"${'0'.repeat(64)}"}`,
    ],
    ['has a negative number', `${JSON.stringify(entry(-1)).slice(0, -1)},"seal":"${'0'.repeat(64)}"}`],
  ] as const) {
    it(`is refused when it ${what}`, () => {
      expect(() => openEntry(text, undefined, 'entry 0')).toThrow(
        expect.objectContaining({ code: 'journal_damaged', message: expect.stringContaining('entry 0') }),
      )
    })
  }

  it('ignores fields that a later version wrote', () => {
    const { text } = sealEntry({ ...entry(0), later: { a: 1 } } as Entry, '')

    expect(openEntry(text, '', 'entry 0').entry).toMatchObject({ n: 0, later: { a: 1 } })
  })
})

describe('usage', () => {
  it('adds up and bears nothing', () => {
    const one = { inputTokens: 1, outputTokens: 2, modelCalls: 3, toolCalls: 4 }

    expect(addUsage(addUsage(NO_USAGE, one), one)).toEqual({ inputTokens: 2, outputTokens: 4, modelCalls: 6, toolCalls: 8 })
    expect(addUsage(one, undefined)).toBe(one)
  })
})
