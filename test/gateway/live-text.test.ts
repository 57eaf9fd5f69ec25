/** What is streamed of an answer while it grows: never what the answer does not begin with. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { KaosError } from '../../bus/wire/errors.ts'
import { piecesOf } from '../../gateway/chat/completion.ts'
import { LiveText } from '../../gateway/chat/live-text.ts'
import type { ProgressEvent } from '../../gateway/door.ts'

const TASK = 'teller_1'
const entry = (n: number, input: ProgressEvent['input'], task = TASK): ProgressEvent => ({
  kind: 'entry',
  agent: 'teller',
  task,
  n,
  ...(input && { input }),
})
const text = (piece: string, effect = `${TASK}_0-0`, task = TASK): ProgressEvent => ({
  kind: 'text',
  agent: 'teller',
  task,
  effect,
  text: piece,
})

function stream(events: readonly ProgressEvent[], { isPlain = true } = {}) {
  const live = new LiveText(TASK, { isPlain })
  return { live, sent: events.map((event) => live.take(event)).join('') }
}

describe('the text of an answer', () => {
  it('is streamed as it comes, and the rest at the end', () => {
    const { live, sent } = stream([entry(0, 'start'), text('Hel'), text('lo ')])

    expect(sent).toBe('Hello ')
    expect(live.rest('Hello world')).toBe('world')
  })

  it('is streamed whole, however it is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' })), fc.string({ unit: 'binary' }), (pieces, end) => {
        const answer = pieces.join('') + end
        const { live, sent } = stream([entry(0, 'start'), ...pieces.map((piece) => text(piece))])

        expect(sent + live.rest(answer)).toBe(answer)
        expect([...piecesOf(answer)].join('')).toBe(answer)
      }),
    )
  })

  it('is never cut within a character', () => {
    const { live, sent } = stream([entry(0, 'start'), text('a\ud83e'), text('\udd9c')])

    expect(sent).toBe('a🦜')
    expect(live.rest('a🦜')).toBe('')
    expect(stream([entry(0, 'start'), text('a\ud83e')]).sent).toBe('a')
    expect([...piecesOf(`${'x'.repeat(8_191)}🦜`)]).toEqual(['x'.repeat(8_191), '🦜'])
  })

  it('waits for the end where a reply may be a word before a call', () => {
    const { live, sent } = stream([entry(0, 'start'), text('I look it up.')], { isPlain: false })

    expect(sent).toBe('')
    expect(live.rest('It is blue.')).toBe('It is blue.')
  })

  it('waits for the end where the beginning was not seen', () => {
    const { live, sent } = stream([text('lo '), entry(1, 'result'), text('world')])

    expect(sent).toBe('')
    expect(live.rest('Hello world')).toBe('Hello world')
  })

  it('waits for the end when another host begins the model call again', () => {
    const { live, sent } = stream([entry(0, 'start'), text('Hel'), entry(1, 'resumed'), text('Hello world')])

    expect(sent).toBe('Hel')
    expect(live.rest('Hello world')).toBe('lo world')
  })

  it('is that of the task alone, not of those that it asked', () => {
    const { sent } = stream([entry(0, 'start'), entry(0, 'start', `${TASK}_0-0`), text('child', 'x', `${TASK}_0-0`), text('own')])

    expect(sent).toBe('own')
  })

  it('is refused in the end when another one was streamed', () => {
    const { live } = stream([entry(0, 'start'), text('Hel'), text('Hello world')])

    expect(() => live.rest('Hello world')).toThrow(KaosError)
    expect(() => live.rest('Hello world')).toThrow(expect.objectContaining({ code: 'stream_broken' }))
  })
})
