/** The machines that the documents show, as their reader would test them. */
import { drive } from 'kaos-actors/testing'
import { describe, expect, it } from 'vitest'
import approval from '../../docs/examples/machines/approval.ts'
import summary from '../../docs/examples/machines/summary.ts'
import survey from '../../docs/examples/machines/survey.ts'

describe('the summary machine', () => {
  it('publishes what the reviewer lets pass', () => {
    const actor = drive(summary, { url: 'https://example.org' })

    expect(actor.pending).toEqual([{ effect: 'fetch', input: { url: 'https://example.org' } }])
    actor.answer('fetch', 'A long page')
    actor.answer('review', 'Yes, it may.')
    expect(actor.state).toBe('shortening')
    actor.answer('shorten', 'Short')

    expect(actor.outcome).toEqual({ state: 'completed', output: 'Short' })
  })

  it('rejects the task when the reviewer says no', () => {
    const actor = drive(summary, { url: 'https://example.org' })

    actor.answer('fetch', 'A long page')
    actor.answer('review', 'no')

    expect(actor.outcome).toMatchObject({ state: 'rejected', failure: { code: 'machine_rejected' } })
  })

  it('fails with the reason of its tool', () => {
    const actor = drive(summary, { url: 'https://example.org' })

    actor.fail('fetch', { code: 'tool_failed', message: 'no such host' })

    expect(actor.outcome).toEqual({ state: 'failed', failure: { code: 'tool_failed', message: 'no such host' } })
  })
})

describe('the approval machine', () => {
  it('pays at most what was approved', () => {
    const actor = drive(approval, { order: 'o-7', cents: 5_000 })

    expect(actor.pending).toEqual([])
    actor.signal('approve', { atMostCents: 2_000 })

    expect(actor.pending).toEqual([{ effect: 'pay', input: { order: 'o-7', cents: 2_000 } }])
  })

  it('can be canceled while it waits', () => {
    const actor = drive(approval, { order: 'o-7', cents: 5_000 })

    actor.cancel()

    expect(actor.outcome).toMatchObject({ state: 'canceled' })
  })
})

describe('the survey machine', () => {
  it('gathers all answers, also those that fail', () => {
    const actor = drive(survey, { question: 'Why?', topics: ['a', 'b', 'c'] })

    expect(actor.pending.map(({ effect, id }) => [effect, id])).toEqual([
      ['ask', 'ask-0'],
      ['ask', 'ask-1'],
      ['ask', 'ask-2'],
    ])
    actor.answer('ask-2', 'third')
    actor.fail('ask-0', 'ill')
    actor.answer('ask-1', 'second')

    expect(actor.outcome).toEqual({ state: 'completed', output: { c: 'third', a: 'no answer: ill', b: 'second' } })
  })

  it('has nothing to ask without topics', () => {
    expect(drive(survey, { question: 'Why?', topics: [] }).outcome).toEqual({ state: 'completed', output: {} })
  })
})
