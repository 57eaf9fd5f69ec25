import { describe, expect, it } from 'vitest'
import { exitCodeOfVerdict, type Verdict, verdictJson, verdictLine } from '../../replay/verdict.ts'

const missing = (count: number): Verdict => ({
  verdict: 'inconclusive',
  traceId: 't',
  missing: Array.from({ length: count }, (_, i) => ({ kind: 'body', agent: 'a', task: 'a_k', message: `body ${i} is missing` })),
  ms: 1,
})

describe('a verdict', () => {
  it('names one missing thing in one line and at most ten in all', () => {
    expect(verdictLine(missing(1))).toBe('inconclusive: body 0 is missing')
    expect(verdictLine(missing(2)).split('\n')).toHaveLength(3)
    expect(verdictLine(missing(30)).split('\n')).toHaveLength(12)
    expect(verdictLine(missing(30))).toContain('inconclusive: 30 things are missing')
    expect(verdictLine(missing(30))).toMatch(/and 20 more$/)
    expect(exitCodeOfVerdict(missing(1))).toBe(2)
    expect(verdictJson(missing(30))).toMatchObject({ verdict: 'inconclusive', exitCode: 2 })
  })

  it('lets nothing of the record reach the terminal as a control character', () => {
    const found = { path: 'outcome', recorded: 'a\u001b[2J', got: 'b\rc', cause: 'machine', why: 'x\ny' } as const
    const place = { agent: 'a', task: 'a_k', n: 0, entry: 'a_k_0' }

    const line = verdictLine({ verdict: 'diverged', traceId: 't', ...place, ...found, ms: 1 })

    expect(line.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u)
    expect(line.split('\n')).toHaveLength(4)
  })
})
