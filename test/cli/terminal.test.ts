import { describe, expect, it } from 'vitest'
import { KaosError } from '../../bus/wire/errors.ts'
import { exitCodeOf } from '../../cli/process/exit-codes.ts'
import { LiveView } from '../../cli/view/live.ts'
import { describeError, errorJson, seconds } from '../../cli/view/terminal.ts'
import { ManifestError } from '../../manifests/problem.ts'

describe('an error', () => {
  const problem = {
    file: 'a.yaml',
    line: 7,
    column: 1,
    path: 'spec.model',
    given: 'nothing',
    allowed: 'a model',
    message: 'missing',
  }

  it('says what failed and what to do, without secrets', () => {
    const error = new KaosError('access_denied', 'could not connect with password=hunter2-hunter2')

    expect(describeError(error)).toMatch(/^could not connect .*\n {2}access_denied: Check NATS_CREDS/)
    expect(describeError(error)).not.toContain('hunter2')
    expect(JSON.stringify(errorJson(error))).not.toContain('hunter2')
  })

  it('of the manifests keeps its problems and is a mistake of the user', () => {
    const error = new ManifestError([problem])

    expect(errorJson(error)).toMatchObject({ error: { code: 'manifest_invalid', problems: [problem] } })
    expect(exitCodeOf(error)).toBe(2)
  })

  it('that nobody foresaw has a code too, and not one of Node or NATS', () => {
    const error = Object.assign(new Error('no space left'), { code: 'ENOSPC' })

    expect(describeError(error)).toMatch(/^no space left\n {2}internal: Please report/)
    expect(errorJson(error)).toMatchObject({ error: { code: 'internal', message: 'no space left' } })
    expect(exitCodeOf(error)).toBe(1)
  })
})

it('tells durations without a sixtieth second', () => {
  const told = [0, 999, 1_000, 59_949, 59_960, 119_600, 7_199_000, 90_000_000].map(seconds)

  expect(told).toEqual(['0 ms', '999 ms', '1.0 s', '59.9 s', '1 min 0 s', '2 min 0 s', '119 min 59 s', '25 h 0 min'])
})

it('shows live what a model called without letting its name move the cursor', () => {
  const live = new LiveView((_style, text) => text)
  const event = { kind: 'entry', agent: 'a', task: 'a_1', n: 0, at: 0, input: 'start' } as const

  const lines = live.lines({ ...event, begins: [{ k: 0, effect: 'tool', name: 'x\u001b[2Jy' }] })
  const answered = live.lines({ ...event, n: 1, at: 5, input: 'result', effect: 'a_1_0-0', ms: 5 })

  expect(lines.at(-1)).toContain('calls tool x [2Jy')
  expect(answered[0]).toContain('x [2Jy answered 5 ms')
})
