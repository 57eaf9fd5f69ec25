/** Who calls whom, as it happens: progress events of a trace as lines for people. */
import { effectId } from '../../bus/wire/ids.ts'
import { type Paint, printable } from './terminal.ts'

export interface ProgressEvent {
  readonly kind: 'entry' | 'text'
  readonly agent: string
  readonly task: string
  readonly n?: number
  readonly at?: number
  readonly host?: string
  readonly input?: 'start' | 'result' | 'error' | 'signal' | 'resumed'
  readonly effect?: string
  readonly failure?: { readonly code: string; readonly message: string }
  readonly ms?: number
  readonly begins?: readonly { readonly k: number; readonly effect: string; readonly name?: string }[]
  readonly outcome?: string
  readonly text?: string
}

const AGENT_WIDTH = 14

/** Turns events into lines; keeps what it needs to name the effect that an answer belongs to. */
export class LiveView {
  /** Names by effect id. */
  private readonly names = new Map<string, string>()
  private readonly paint: Paint
  private startedAt: number | undefined

  /** `paint` of the stream that the lines go to. */
  constructor(paint: Paint) {
    this.paint = paint
  }

  lines(event: ProgressEvent): string[] {
    if (event.kind !== 'entry') return []
    const at = event.at ?? Date.now()
    this.startedAt ??= at
    const elapsed = `${((at - this.startedAt) / 1_000).toFixed(1)} s`.padStart(7)
    const head = `${this.paint('dim', elapsed)}  ${event.agent.padEnd(AGENT_WIDTH)}`
    return this.describe(event).map((text) => `${head}${text}`)
  }

  private describe(event: ProgressEvent): string[] {
    const { paint } = this
    const lines: string[] = []
    const answered = event.effect === undefined ? undefined : this.names.get(event.effect)
    const took = event.ms === undefined ? '' : paint('dim', ` ${event.ms} ms`)
    if (event.input === 'start') lines.push('begins')
    if (event.input === 'resumed') lines.push(paint('yellow', `↻ taken over by host ${event.host}`))
    if (event.input === 'result' && answered) lines.push(`${paint('green', '◀')} ${answered} answered${took}`)
    if (event.input === 'error')
      lines.push(`${paint('red', '◀')} ${answered ?? event.effect} failed: ${event.failure?.code}${took}`)
    for (const { k, effect, name: given } of event.begins ?? []) {
      const name = printable(given ?? effect)
      this.names.set(effectId(event.task, event.n ?? 0, k), name)
      if (effect === 'tool') lines.push(`${paint('cyan', '▶')} calls tool ${name}`)
      else if (effect.startsWith('local.')) lines.push(`${paint('cyan', '▶')} runs ${name}`)
      else if (effect === 'delegate') lines.push(`${paint('magenta', '▶')} asks ${name}`)
    }
    if (event.outcome)
      lines.push(event.outcome === 'completed' ? paint('green', '✔ completed') : paint('red', `✖ ${event.outcome}`))
    return lines
  }
}
