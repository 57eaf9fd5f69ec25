/** Draws a trace as a tree of lines for people: who asked whom, how long it took and waited, what it cost, where a host took over. */
import { styleText } from 'node:util'
import type { Usage } from '../../bus/wire/entry.ts'
import type { Failure } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { ActorNode, EffectNode, Takeover, TraceTree } from '../../replay/timeline.ts'
import { redact } from '../../telemetry/redact.ts'
import { printable, type Style, seconds } from './terminal.ts'

export interface DrawOptions {
  /** Columns of the terminal. */
  readonly width: number
  readonly color: boolean
  /** Whether span ids are shown, as a tracing backend knows them. */
  readonly hasIds?: boolean
}

/** One line before it is laid out. */
interface Row {
  /** Branches of the tree, such as `│  ├─ `. */
  readonly branch: string
  readonly label: string
  readonly style?: Style
  /** Absent for what is a remark: it takes the whole line. */
  readonly timing?: {
    readonly text: string
    readonly begunAt: number
    readonly startedAt: number
    readonly endedAt: number
  }
  readonly problem?: string
  readonly details: readonly string[]
}

const LABEL_SHARE_MAX = 0.45
const TIME_COLUMNS = 12
const BAR_COLUMNS = 16
/** Narrower than this there is no room for bars. */
const BAR_WIDTH_MIN = 90
/** A shorter wait is nothing that anybody would look into. */
const WAIT_SHOWN_MIN_MS = 10

export function drawTrace(tree: TraceTree, { width, color, hasIds = false }: DrawOptions): string[] {
  const paint = (style: Style | undefined, text: string) =>
    color && style && text !== '' ? styleText(style, text, { validateStream: false }) : text
  const rows = tree.roots.flatMap((root) => actorRows(root, undefined, '', '', { lastAt: tree.lastAt, hasIds }))
  const widest = Math.max(0, ...rows.map(({ branch, label, timing }) => (timing ? branch.length + label.length : 0)))
  const labelColumns = Math.min(widest, Math.floor(width * LABEL_SHARE_MAX))
  const barColumns = width >= BAR_WIDTH_MIN ? BAR_COLUMNS : 0

  /** Failures that their row has no room for, with who failed first. A parent often fails with the words of its child. */
  const cutShort = new Map<string, string>()
  const draw = ({ branch, label, style, timing, problem = '', details }: Row): string => {
    if (!timing) return paint('dim', branch) + paint(style, cut(label, width - branch.length))
    const name = cut(label, labelColumns - branch.length).padEnd(labelColumns - branch.length)
    const time = timing.text.padStart(TIME_COLUMNS)
    const bar = barColumns > 0 ? `  ${barOf(timing, tree, barColumns)}` : ''
    const left = width - labelColumns - time.length - bar.length - 2
    const wrong = cut(problem, left)
    if (wrong !== problem) cutShort.set(problem, label)
    const rest = cut(details.join(', '), left - (wrong === '' ? 0 : wrong.length + 2))
    const columns = [paint('dim', branch), paint(style, name), time, paint('cyan', bar)]
    return [...columns, wrong && `  ${paint('red', wrong)}`, rest && `  ${paint('dim', rest)}`].join('').trimEnd()
  }
  const head = cut(headOf(tree), width).replace(tree.state, (state) => paint(styleOf(tree.state), state))
  const missing = tree.missing.map((message) => paint('yellow', cut(`missing: ${printable(message)}`, width)))
  const drawn = rows.map(draw)
  const failures = [...cutShort].flatMap(([problem, label]) => wrap(problem.replace('✖', `✖ ${label}:`), width))
  return [head, ...drawn, ...failures.map((line) => paint('red', line)), ...missing]
}

function headOf({ traceId, state, ms, usage, entries, takeovers }: TraceTree): string {
  const took = state === 'working' ? 'for' : 'in'
  const facts = [`trace ${traceId}`, `${state} ${took} ${seconds(ms)}`, tokens(usage), count(entries, 'entry', 'entries')]
  return [...facts, ...(takeovers > 0 ? [count(takeovers, 'takeover', 'takeovers')] : [])].join('  ')
}

/** What rows say beside what their nodes do. */
interface Saying {
  /** Until when what is under way is drawn, epoch ms. */
  readonly lastAt: number
  readonly hasIds: boolean
}

/** An actor, then all that it asked for and the takeovers between, in the order of time. `asked` is the delegation that began it. */
function actorRows(actor: ActorNode, asked: EffectNode | undefined, branch: string, below: string, saying: Saying): Row[] {
  const { lastAt, hasIds } = saying
  const isOpen = actor.state === 'working'
  const own: Row = {
    branch,
    label: actor.agent,
    style: 'bold',
    timing: {
      text: timeOf(actor.ms, isOpen),
      begunAt: asked?.begunAt ?? actor.startedAt,
      startedAt: actor.startedAt,
      endedAt: isOpen ? lastAt : actor.lastAt,
    },
    details: [
      ...(hasIds ? [`span ${actor.spanId}`, ...(asked ? [`delegate ${asked.spanId}`] : [])] : []),
      ...longer('waited', asked?.waitMs ?? 0),
      ...longer('parked', actor.parkedMs),
      tokens(actor.usage),
    ],
    ...problemOf(actor.state === 'completed' || isOpen ? undefined : actor.state, actor.failure),
  }
  const nodes = [
    ...actor.effects.map((effect) => ({ at: effect.begunAt, effect })),
    ...actor.takeovers.map((takeover) => ({ at: takeover.at, remark: takeoverText(takeover), style: 'yellow' as const })),
    ...actor.signals.map((signal) => ({
      at: signal.at,
      remark: `signal ${printable(signal.name)}${signal.isIgnored ? ', which its state does not take' : ''}`,
      style: signal.isIgnored ? ('yellow' as const) : ('dim' as const),
    })),
    ...(actor.isWaiting ? [{ at: lastAt, remark: 'waits for a signal', style: 'yellow' as const }] : []),
  ].sort((a, b) => a.at - b.at)
  return [
    own,
    ...nodes.flatMap((node, i) => {
      const isLast = i === nodes.length - 1
      const [here, under] = isLast ? [`${below}└─ `, `${below}   `] : [`${below}├─ `, `${below}│  `]
      if ('remark' in node) return [{ branch: here, label: node.remark, style: node.style, details: [] }]
      const { child } = node.effect
      const rows = child ? actorRows(child, node.effect, here, under, saying) : [effectRow(node.effect, here, saying)]
      return [rows[0]!, ...contentRows(node.effect, child ? `${under}│  ` : `${under}   `), ...rows.slice(1)]
    }),
  ]
}

function effectRow(effect: EffectNode, branch: string, { lastAt, hasIds }: Saying): Row {
  const { state, begunAt, startedAt, waitMs, attempts, usage } = effect
  const isOpen = state === 'open'
  const endedAt = effect.endedAt ?? (isOpen ? lastAt : begunAt)
  return {
    branch,
    label: `${effect.effect === 'delegate' ? 'asks' : effect.effect} ${printable(effect.name)}`,
    ...(isOpen && { style: 'yellow' }),
    timing: { text: state === 'stopped' ? '-' : timeOf(effect.ms ?? endedAt - startedAt, isOpen), begunAt, startedAt, endedAt },
    details: [
      ...(hasIds ? [`span ${effect.spanId}`, ...(effect.executeSpanId ? [`execute ${effect.executeSpanId}`] : [])] : []),
      ...longer('waited', waitMs),
      ...(usage.inputTokens + usage.outputTokens > 0 ? [tokens(usage)] : []),
      ...(attempts > 1 ? [`${attempts} attempts`] : []),
      ...(state === 'stopped' ? ['not needed any more'] : []),
    ],
    ...problemOf(state === 'failed' ? state : undefined, effect.failure),
  }
}

/** What was asked and answered, each on a line of its own, cut to the width. */
function contentRows({ asked, answer }: EffectNode, branch: string): Row[] {
  const row = (word: string, value: Json | undefined): Row[] =>
    value === undefined ? [] : [{ branch, label: `${word} ${redact(printable(textOf(value)))}`, style: 'dim', details: [] }]
  return [...row('asked   ', asked), ...row('answered', answer)]
}

function textOf(value: Json): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function takeoverText({ from, to, afterMs }: Takeover): string {
  const before = from === '' ? '' : ` from ${from}`
  return `↻ taken over by ${to}${before} after ${seconds(afterMs)}`
}

/** Where in the trace it lay: `┄` asked for and waiting, `━` at work. */
function barOf(timing: NonNullable<Row['timing']>, tree: TraceTree, columns: number): string {
  const column = (at: number) => {
    const share = tree.ms === 0 ? 0 : (at - tree.startedAt) / tree.ms
    return Math.round(Math.min(1, Math.max(0, share)) * (columns - 1))
  }
  const [begun, started, ended] = [column(timing.begunAt), column(timing.startedAt), column(timing.endedAt)]
  return Array.from({ length: columns }, (_, i) => (i < begun || i > ended ? ' ' : i < started ? '┄' : '━')).join('')
}

function problemOf(state: string | undefined, failure: Failure | undefined): { readonly problem?: string } {
  if (state === undefined) return {}
  return { problem: `✖ ${failure ? redact(printable(`${failure.code}: ${failure.message}`)) : state}` }
}

function styleOf(state: TraceTree['state']): Style {
  if (state === 'completed') return 'green'
  return state === 'working' ? 'yellow' : 'red'
}

function longer(word: string, ms: number): readonly string[] {
  return ms >= WAIT_SHOWN_MIN_MS ? [`${word} ${seconds(ms)}`] : []
}

function timeOf(ms: number, isOpen: boolean): string {
  return isOpen ? `${seconds(ms)} …` : seconds(ms)
}

function tokens({ inputTokens, outputTokens }: Usage): string {
  return count(inputTokens + outputTokens, 'token', 'tokens')
}

function count(n: number, one: string, many: string): string {
  return `${n} ${n === 1 ? one : many}`
}

/** Lines of at most so many columns, broken between words where that is possible. */
function wrap(text: string, columns: number): readonly string[] {
  if (text.length <= columns) return [text]
  const lines = text.match(new RegExp(`.{1,${columns}}(?: |$)|.{1,${columns}}`, 'gu')) ?? []
  return lines.map((line) => line.trimEnd())
}

function cut(text: string, columns: number): string {
  if (text.length <= columns) return text
  return columns < 2 ? '' : `${text.slice(0, columns - 1)}…`
}
