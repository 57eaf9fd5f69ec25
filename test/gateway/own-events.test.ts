/** Events of a task under a key that two callers use at the same moment. */
import { describe, expect, it } from 'vitest'
import { OwnEvents } from '../../gateway/chat/own-events.ts'
import type { ProgressEvent } from '../../gateway/door.ts'
import { HTTP_LIMITS } from '../../gateway/limits.ts'

const TASK = 'teller_1'
const begin: ProgressEvent = { kind: 'entry', agent: 'teller', task: TASK, n: 0, input: 'start' }
const text = (piece: string): ProgressEvent => ({ kind: 'text', agent: 'teller', task: TASK, text: piece })

function keptBack() {
  const passed: ProgressEvent[] = []
  const proof = Promise.withResolvers<boolean>()
  let asked = 0
  const prove = () => {
    asked++
    return proof.promise
  }
  const own = new OwnEvents(TASK, { pass: (event) => passed.push(event), prove })
  return { own, passed, proof, asked: () => asked }
}

describe('what happens in a task', () => {
  it('is shown in its order once the task is known to be the caller’s own', async () => {
    const { own, passed, proof } = keptBack()
    own.take(begin)
    own.take(text('a'))
    const before = [...passed]

    proof.resolve(true)
    await proof.promise
    own.take(text('b'))

    expect(before).toEqual([])
    expect(passed).toEqual([begin, text('a'), text('b')])
  })

  it.each(['no', 'an error'])('is never shown after %s', async (answer) => {
    const { own, passed, proof } = keptBack()
    own.take(begin)

    if (answer === 'no') proof.resolve(false)
    else proof.reject(new Error('why'))
    await proof.promise.catch(() => undefined)
    own.take(text('a'))
    own.open()

    expect(passed).toEqual([])
  })

  it('is shown without a question where it is known already', () => {
    const { own, passed, asked } = keptBack()
    own.take(text('a'))

    own.open()
    own.take(begin)

    expect(passed).toEqual([text('a'), begin])
    expect(asked()).toBe(0)
  })

  it('is left out altogether when there is more than is kept', async () => {
    const { own, passed, proof } = keptBack()
    own.take(begin)
    for (let i = 0; i < HTTP_LIMITS.unsentEventsMax; i++) own.take(text('a'))

    proof.resolve(true)
    await proof.promise

    expect(passed).toEqual([])
  })
})
