/** The algorithm alone: each rule in a line of a table, and what must hold whatever the backlog does. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  beginHistory,
  decide,
  noteChange,
  SCALING_LIMITS,
  type ScalingHistory,
  type ScalingReason,
  type ScalingSettings,
} from '../../../operator/scale/scaling.ts'

const SETTINGS: ScalingSettings = { minReplicas: 0, maxReplicas: 10, targetBacklogPerReplica: 10, cooldownSeconds: 120 }
const { downWindowMs, upPeriodMs, replicasUseful } = SCALING_LIMITS
const COOLDOWN_MS = SETTINGS.cooldownSeconds * 1_000
/** A day after the beginning, so that nothing of the beginning counts. */
const NOW = 86_400_000

const quiet: ScalingHistory = { recommended: [], added: [], busyAt: NOW - COOLDOWN_MS / 2, loweredAt: Number.NEGATIVE_INFINITY }

interface Case {
  readonly when: string
  readonly backlog: number
  readonly current: number
  readonly settings?: Partial<ScalingSettings>
  readonly history?: Partial<ScalingHistory>
  readonly gives: readonly [number, ScalingReason]
}

const cases: readonly Case[] = [
  { when: 'one message wakes a sleeper', backlog: 1, current: 0, gives: [1, 'WokenUp'] },
  { when: 'a sleeper gets all the pods it needs at once', backlog: 95, current: 0, gives: [10, 'WokenUp'] },
  { when: 'a sleeper without mail sleeps', backlog: 0, current: 0, gives: [0, 'Steady'] },
  {
    when: 'the smallest count is kept without mail',
    backlog: 0,
    current: 0,
    settings: { minReplicas: 2 },
    gives: [2, 'AtMinimum'],
  },
  { when: 'a raised minimum counts at once', backlog: 0, current: 1, settings: { minReplicas: 3 }, gives: [3, 'AtMinimum'] },
  { when: 'a lowered maximum counts at once', backlog: 500, current: 9, settings: { maxReplicas: 4 }, gives: [4, 'AtMaximum'] },
  { when: 'more mail brings more pods', backlog: 40, current: 2, gives: [4, 'BacklogGrew'] },
  { when: 'few more at first: four', backlog: 100, current: 2, gives: [6, 'RateLimited'] },
  { when: 'or twice as many', backlog: 990, current: 20, settings: { maxReplicas: 99 }, gives: [40, 'RateLimited'] },
  {
    when: 'counted from what there was when the period began',
    backlog: 100,
    current: 6,
    history: { added: [{ at: NOW - upPeriodMs + 1, replicas: 4 }] },
    gives: [6, 'RateLimited'],
  },
  {
    when: 'and again in the next period',
    backlog: 100,
    current: 6,
    history: { added: [{ at: NOW - upPeriodMs, replicas: 4 }] },
    gives: [10, 'BacklogGrew'],
  },
  {
    when: 'one that slept when the period began is not held back',
    backlog: 100,
    current: 1,
    history: { added: [{ at: NOW - 1, replicas: 1 }] },
    gives: [10, 'BacklogGrew'],
  },
  { when: 'no more than the maximum', backlog: 999, current: 9, gives: [10, 'AtMaximum'] },
  { when: 'the maximum is told while it is not enough', backlog: 999, current: 10, gives: [10, 'AtMaximum'] },
  { when: 'a tenth too much changes nothing', backlog: 55, current: 5, gives: [5, 'Steady'] },
  { when: 'a tenth too little changes nothing', backlog: 45, current: 5, gives: [5, 'Steady'] },
  {
    when: 'more pods than can pull are useless',
    backlog: 99_999,
    current: 0,
    settings: { maxReplicas: 900 },
    gives: [replicasUseful, 'WokenUp'],
  },
  { when: 'less mail takes pods away', backlog: 11, current: 5, gives: [2, 'BacklogFell'] },
  {
    when: 'but no more than the window wants',
    backlog: 11,
    current: 5,
    history: { recommended: [{ at: NOW - downWindowMs + 1, replicas: 4 }] },
    gives: [4, 'BacklogFell'],
  },
  {
    when: 'and not while the window wants as many',
    backlog: 11,
    current: 5,
    history: { recommended: [{ at: NOW - downWindowMs + 1, replicas: 5 }] },
    gives: [5, 'Stabilizing'],
  },
  {
    when: 'and once in a window',
    backlog: 11,
    current: 5,
    history: { loweredAt: NOW - downWindowMs + 1 },
    gives: [5, 'Stabilizing'],
  },
  { when: 'one pod stays while there is mail', backlog: 1, current: 1, history: { busyAt: 0 }, gives: [1, 'Steady'] },
  { when: 'one pod stays until it has cooled down', backlog: 0, current: 1, gives: [1, 'CoolingDown'] },
  { when: 'of several one stays until then', backlog: 0, current: 5, gives: [1, 'BacklogFell'] },
  { when: 'then it sleeps', backlog: 0, current: 1, history: { busyAt: NOW - COOLDOWN_MS }, gives: [0, 'ScaledToZero'] },
  {
    when: 'a short cooldown does not wait for the window',
    backlog: 0,
    current: 5,
    settings: { cooldownSeconds: 5 },
    history: { busyAt: NOW - 5_000, recommended: [{ at: NOW - 5_000, replicas: 5 }] },
    gives: [0, 'ScaledToZero'],
  },
  {
    when: 'with a minimum it never sleeps',
    backlog: 0,
    current: 1,
    settings: { minReplicas: 1 },
    history: { busyAt: 0 },
    gives: [1, 'Steady'],
  },
]

describe('the count of pods', () => {
  for (const { when, backlog, current, settings, history, gives } of cases) {
    it(when, () => {
      const decision = decide({ backlog, current, now: NOW }, { ...SETTINGS, ...settings }, { ...quiet, ...history })

      expect([decision.replicas, decision.why]).toEqual(gives)
    })
  }

  it('takes nothing away before a whole window was seen', () => {
    const history = beginHistory(5, NOW)

    expect(decide({ backlog: 1, current: 5, now: NOW + downWindowMs - 1 }, SETTINGS, history).replicas).toBe(5)
    expect(decide({ backlog: 1, current: 5, now: NOW + downWindowMs }, SETTINGS, history).replicas).toBe(1)
  })
})

interface Step {
  readonly afterMs: number
  readonly backlog: number
}
interface Seen {
  readonly now: number
  readonly backlog: number
  readonly from: number
  readonly to: number
  readonly why: ScalingReason
}

/** What a scaler does whose writes all succeed. */
function run(steps: readonly Step[], settings: ScalingSettings, start: number): readonly Seen[] {
  let now = 0
  let current = start
  let history = beginHistory(start, now)
  return steps.map(({ afterMs, backlog }) => {
    now += afterMs
    const from = current
    const decision = decide({ backlog, current, now }, settings, history)
    current = decision.replicas
    history = from === current ? decision.history : noteChange(decision.history, from, current, now)
    return { now, backlog, from, to: current, why: decision.why }
  })
}

const settingsOf = fc
  .record({
    minReplicas: fc.nat(5),
    more: fc.nat(40),
    targetBacklogPerReplica: fc.integer({ min: 1, max: 50 }),
    cooldownSeconds: fc.constantFrom(0, 5, 60, 120),
  })
  .map(
    ({ minReplicas, more, ...rest }): ScalingSettings => ({ ...rest, minReplicas, maxReplicas: Math.max(1, minReplicas + more) }),
  )
const stepsOf = fc.array(
  fc.record({
    afterMs: fc.oneof(fc.constant(5_000), fc.nat(90_000)),
    backlog: fc.oneof(fc.constant(0), fc.nat(30), fc.nat(5_000)),
  }),
  { maxLength: 60 },
)

describe('whatever the backlog does', () => {
  const holds = (check: (seen: readonly Seen[], settings: ScalingSettings) => void) =>
    fc.assert(
      fc.property(settingsOf, stepsOf, fc.nat(50), (settings, steps, start) => check(run(steps, settings, start), settings)),
      { numRuns: 500 },
    )

  it('the count stays within its bounds, and is at least one while there is mail', () => {
    holds((seen, { minReplicas, maxReplicas }) => {
      for (const { backlog, to } of seen) {
        expect(to).toBeLessThanOrEqual(maxReplicas)
        expect(to).toBeGreaterThanOrEqual(Math.max(minReplicas, backlog > 0 ? 1 : 0))
      }
    })
  })

  it('the count reaches zero only after a cooldown without mail', () => {
    holds((seen, { cooldownSeconds }) => {
      const busy = seen.map(({ backlog, now }) => (backlog > 0 ? now : 0))
      seen.forEach(({ from, to, now }, i) => {
        if (to > 0 || from === 0) return
        expect(now - Math.max(...busy.slice(0, i + 1))).toBeGreaterThanOrEqual(cooldownSeconds * 1_000)
      })
    })
  })

  it('pods are taken away once in a window at most, and never below what was needed within it', () => {
    holds((seen, { minReplicas, maxReplicas, targetBacklogPerReplica }) => {
      const lowered = seen.filter(({ why }) => why === 'BacklogFell')
      lowered.slice(1).forEach(({ now }, i) => {
        expect(now - lowered[i]!.now).toBeGreaterThanOrEqual(downWindowMs)
      })
      for (const one of lowered) {
        const { now, to } = one
        const window = seen.slice(0, seen.indexOf(one) + 1).filter((earlier) => earlier.now > now - downWindowMs)
        for (const { backlog, from } of window) {
          const needed = Math.min(maxReplicas, Math.max(minReplicas, Math.ceil(backlog / targetBacklogPerReplica)))
          // Within a tenth of what the pods of that moment were meant for nothing more was needed.
          const isNear =
            Math.abs(backlog - from * targetBacklogPerReplica) <= from * targetBacklogPerReplica * SCALING_LIMITS.tolerance
          expect(to).toBeGreaterThanOrEqual(isNear ? Math.min(from, needed) : needed)
        }
      }
    })
  })

  it('pods are added in steps, unless the agent slept or has fewer than it must have', () => {
    holds((seen, { minReplicas }) => {
      for (const { from, to } of seen) {
        if (from === 0 || to <= Math.max(from, minReplicas)) continue
        const sleptLately = seen.some((one) => one.from === 0 && one.to > 0)
        if (!sleptLately)
          expect(to).toBeLessThanOrEqual(Math.max(from + SCALING_LIMITS.upStepMin, from * SCALING_LIMITS.upFactor))
      }
    })
  })

  it('the memory of it stays small', () => {
    holds((seen, settings) => {
      let history = beginHistory(0, 0)
      for (const { backlog, from, now } of seen) history = decide({ backlog, current: from, now }, settings, history).history
      expect(history.recommended.length).toBeLessThanOrEqual(Math.min(settings.maxReplicas, seen.length) + 1)
    })
  })
})
