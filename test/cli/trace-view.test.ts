import { describe, expect, it } from 'vitest'
import { drawTrace } from '../../cli/view/trace-view.ts'
import type { ActorNode, EffectNode, TraceTree } from '../../replay/timeline.ts'

const usage = (tokens: number) => ({ inputTokens: tokens, outputTokens: 0, modelCalls: 0, toolCalls: 0 })

const spanId = (of: string) => Buffer.from(of.padEnd(8, '.').slice(0, 8)).toString('hex')

function effect(kind: string, name: string, from: number, to: number, more: Partial<EffectNode> = {}): EffectNode {
  const times = { begunAt: from, startedAt: from, endedAt: to, ms: to - from, waitMs: 0 }
  const place = { id: `${name}@${from}`, spanId: spanId(`${name}@${from}`) }
  return { ...place, effect: kind, name, state: 'completed', ...times, attempts: 1, usage: usage(0), ...more }
}

function actor(agent: string, from: number, to: number, more: Partial<ActorNode> = {}): ActorNode {
  const times = { startedAt: from, lastAt: to, ms: to - from, parkedMs: 0 }
  const nothing = { effects: [], takeovers: [], signals: [], isWaiting: false }
  return {
    agent,
    task: agent,
    spanId: spanId(agent),
    state: 'completed',
    ...times,
    usage: usage(0),
    entries: 1,
    ...nothing,
    ...more,
  }
}

function tree(root: ActorNode, more: Partial<TraceTree> = {}): TraceTree {
  const { state, startedAt, lastAt, ms } = root
  const totals = { usage: root.usage, entries: 14, actors: 2, takeovers: 0, missing: [] }
  return { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', state, startedAt, lastAt, ms, ...totals, roots: [root], ...more }
}

const worker = actor('worker', 2_000, 8_000, {
  usage: usage(40),
  parkedMs: 500,
  takeovers: [{ n: 1, at: 6_100, from: 'h1', to: 'h3f', afterMs: 4_100 }],
  effects: [
    effect('model', 'small', 2_000, 8_000, { startedAt: 6_100, ms: 1_900, waitMs: 4_100, usage: usage(40), attempts: 2 }),
    effect('tool', 'search@web', 8_000, 8_000, {
      state: 'failed',
      failure: { code: 'tool_failed', message: 'no\u001b[2J luck' },
    }),
  ],
})
const coordinator = actor('coordinator', 0, 10_000, {
  usage: usage(100),
  parkedMs: 6_200,
  effects: [
    effect('model', 'large', 0, 1_800, { usage: usage(60) }),
    effect('delegate', 'worker', 1_800, 8_000, { child: worker, waitMs: 200 }),
  ],
})

describe('a drawn trace', () => {
  it('reads as a tree with times, waits, tokens and takeovers', () => {
    expect(drawTrace(tree(coordinator, { takeovers: 1 }), { width: 110, color: false })).toEqual([
      'trace 4bf92f3577b34da6a3ce929d0e0e4736  completed in 10.0 s  100 tokens  14 entries  1 takeover',
      'coordinator                10.0 s  ━━━━━━━━━━━━━━━━  parked 6.2 s, 100 tokens',
      '├─ model large              1.8 s  ━━━━              60 tokens',
      '└─ worker                   6.0 s     ━━━━━━━━━━     waited 200 ms, parked 500 ms, 40 tokens',
      '   ├─ model small           1.9 s     ┄┄┄┄┄┄━━━━     waited 4.1 s, 40 tokens, 2 attempts',
      '   ├─ ↻ taken over by h3f from h1 after 4.1 s',
      '   └─ tool search@web        0 ms              ━     ✖ tool_failed: no [2J luck',
    ])
  })

  it('shows signals, the one that nobody took, what it waits for, and what was asked and answered', () => {
    const waiting = actor('approval', 0, 3_000, {
      state: 'working',
      effects: [effect('tool', 'stock@store', 0, 10, { asked: { tool: 'stock' }, answer: 'three \u001b[2J left' })],
      signals: [
        { name: 'aprove', at: 1_000, isIgnored: true },
        { name: 'note', at: 2_000, isIgnored: false },
      ],
      isWaiting: true,
    })

    expect(drawTrace(tree(waiting), { width: 80, color: false }).slice(2)).toEqual([
      '├─ tool stock@store       10 ms',
      '│     asked    {"tool":"stock"}',
      '│     answered three  [2J left',
      '├─ signal aprove, which its state does not take',
      '├─ signal note',
      '└─ waits for a signal',
    ])
  })

  it('names the spans of a backend when asked: of an agent, its delegation, and a call in its tool server', () => {
    const called = effect('tool', 'search@web', 0, 10, { executeSpanId: spanId('execute') })
    const root = actor('a', 0, 20, {
      effects: [called, effect('delegate', 'b', 10, 20, { child: actor('b', 10, 20) })],
    })

    const lines = drawTrace(tree(root), { width: 160, color: false, hasIds: true })

    expect(lines[1]).toContain(`span ${spanId('a')}, 0 tokens`)
    expect(lines[2]).toContain(`span ${spanId('search@web@0')}, execute ${spanId('execute')}`)
    expect(lines[3]).toContain(`span ${spanId('b')}, delegate ${spanId('b@10')}, 0 tokens`)
  })

  it('keeps to the width of the terminal', () => {
    for (const width of [40, 60, 89, 90, 200]) {
      const lines = drawTrace(tree(coordinator, { missing: ['x'.repeat(300)] }), { width, color: false, hasIds: true })
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(width)
    }
  })

  it('has colours only when asked, and the same text with them', () => {
    const drawing = tree(coordinator)

    const plain = drawTrace(drawing, { width: 110, color: false })
    const colored = drawTrace(drawing, { width: 110, color: true })

    // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape sequences are what is looked for
    expect(plain.join('')).not.toMatch(/\u001b/)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: as above
    expect(colored.map((line) => line.replaceAll(/\u001b\[\d+m/g, '').trimEnd())).toEqual(plain)
    expect(colored[0]).toContain('\u001b[32mcompleted')
  })

  it('marks what is under way, what nobody waits for, and what failed', () => {
    const { endedAt: _endedAt, ms: _ms, ...open } = effect('model', 'large', 500, 0, { state: 'open' })
    const { endedAt: _end, ms: _time, ...stopped } = effect('delegate', 'worker', 500, 0, { state: 'stopped' })

    const working = drawTrace(tree(actor('a', 0, 900, { state: 'working', effects: [open] })), { width: 70, color: false })
    const failure = { code: 'time_limit', message: 'too late' }
    const failed = drawTrace(tree(actor('a', 0, 900, { state: 'failed', failure, effects: [stopped] })), {
      width: 70,
      color: false,
    })

    expect(working[0]).toContain('working for 900 ms')
    expect(working[2]).toBe('└─ model large    400 ms …')
    expect(failed[1]).toContain('✖ time_limit: too late')
    expect(failed[2]).toBe('└─ asks worker           -  not needed any more')
  })

  it('says a failure in full below where its row has no room for it, once for all who failed with it', () => {
    const failure = { code: 'model_failed', message: `status 401: ${'the key was refused '.repeat(8)}END` }
    const model = effect('model', 'large', 0, 900, { state: 'failed', failure })
    const root = actor('a', 0, 900, { state: 'failed', failure, effects: [model] })

    const lines = drawTrace(tree(root), { width: 80, color: false })
    const unlimited = drawTrace(tree(root), { width: Number.POSITIVE_INFINITY, color: false })

    const below = lines.slice(3)
    expect(below[0]).toMatch(/^✖ model large: model_failed: status 401/)
    expect(below.at(-1)).toMatch(/END$/)
    expect(below.join(' ').match(/END/g)).toHaveLength(1)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80)
    expect(unlimited).toHaveLength(3)
    expect(unlimited[2]).toMatch(/END$/)
  })

  it('says what of the record is missing', () => {
    const lines = drawTrace(tree(actor('a', 0, 1), { missing: ['the journal of "b" is empty'] }), { width: 80, color: false })

    expect(lines.at(-1)).toBe('missing: the journal of "b" is empty')
  })
})
