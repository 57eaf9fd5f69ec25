/** What a caller is told of an error, and whether a client may repeat the request by itself. */
import { describe, expect, it } from 'vitest'
import type { ErrorCode } from '../../bus/wire/error-codes.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { HttpProblem, TaskProblem, tell } from '../../gateway/problem.ts'

const ticket = { agent: 'teller', id: 'k', task: 'teller_k', traceId: 'a'.repeat(32) }
const usage = { inputTokens: 0, outputTokens: 0, modelCalls: 0, toolCalls: 0 }
const failed = (code: string, message = 'why', state: 'failed' | 'canceled' | 'rejected' = 'failed') =>
  new TaskProblem({ state, failure: { code, message }, task: ticket.task, trace: ticket.traceId, usage })

describe('an error', () => {
  it('that is none of ours tells nothing of itself', () => {
    const told = tell(new TypeError('cannot read secret of /etc/passwd'), { ticket, isSent: true })

    expect(told.status).toBe(500)
    expect(JSON.stringify(told)).not.toContain('passwd')
    expect(told.body.error).toMatchObject({ code: 'internal', type: 'server_error', param: null })
  })

  it('has no secrets in it', () => {
    const told = tell(failed('model_failed', 'refused: Bearer abcdef0123456789 at http://me:secret@models'))

    expect(told.body.error.message).not.toMatch(/abcdef0123456789|secret@/)
  })

  it.each([
    ['model_failed', 502],
    ['model_timeout', 504],
    ['step_limit', 422],
    ['time_limit', 422],
    ['payload_too_large', 413],
    ['machine_failed', 500],
    ['out_of_stock', 422],
  ])('of a task that failed with %s has status %i and is not repeated', (code, status) => {
    const told = tell(failed(code), { ticket, isSent: true, isKeyed: true })

    expect(told).toMatchObject({ status, headers: { 'x-should-retry': 'false' }, body: { error: { code, type: 'task_failed' } } })
  })

  it('says how a task ended that did not fail', () => {
    expect(tell(failed('canceled', 'why', 'canceled'))).toMatchObject({ status: 409, body: { error: { type: 'task_canceled' } } })
    expect(tell(failed('bad_message', 'why', 'rejected'))).toMatchObject({
      status: 400,
      body: { error: { type: 'task_rejected' } },
    })
  })

  it.each([
    ['broker_unreachable', false, false, 'true'],
    ['door_full', true, false, 'true'],
    ['publish_timeout', true, false, 'false'],
    ['publish_timeout', true, true, 'true'],
    ['result_timeout', true, true, 'true'],
    ['key_conflict', true, true, 'false'],
  ] as const)('%s (sent %s, with a key %s) may be repeated: %s', (code, isSent, isKeyed, again) => {
    const told = tell(new KaosError(code satisfies ErrorCode, 'why'), { ticket, isSent, isKeyed })

    expect(told.headers['x-should-retry']).toBe(again)
  })

  it('names the task once it may be in the mail', () => {
    const sent = tell(new KaosError('result_timeout', 'why'), { ticket, isSent: true })
    const full = tell(new KaosError('door_full', 'why'), { ticket, isSent: true })

    expect(sent.body.error).toMatchObject({ task: 'teller_k', trace: ticket.traceId, idempotency_key: 'k' })
    expect(full.body.error).not.toHaveProperty('task')
  })

  it('keeps the status, field and headers of a request that is wrong', () => {
    const told = tell(new HttpProblem(405, 'method_not_allowed', 'only GET', { param: 'p', headers: { allow: 'GET' } }))

    expect(told).toMatchObject({
      status: 405,
      headers: { allow: 'GET' },
      body: { error: { param: 'p', code: 'method_not_allowed' } },
    })
  })
})
