/** One decided input of an actor, as it stands in the journal: the fold of these is the actor. */
import { z } from 'zod'
import { type Failure, KaosError } from './errors.ts'
import type { EffectId } from './ids.ts'
import { type Json, sha256 } from './json.ts'
import type { Party } from './subjects.ts'
import type { TraceContext } from './trace.ts'

/** What a task may use. Shares are handed down: a child draws on what its parent set aside for it. */
export interface Limits {
  /** Model rounds of this agent; children have their own. */
  readonly steps?: number
  /** Tool calls and delegations of the whole tree. */
  readonly toolCalls?: number
  /** Input and output tokens of the whole tree. */
  readonly tokens?: number
  /** Epoch ms after which nothing new is begun. */
  readonly deadlineAt?: number
  /** How deep delegations may nest below the root. */
  readonly depth: number
  /** Calls and delegations in one reply of the model. */
  readonly fanOut: number
}

/** What was used, summed over an actor and its children. */
export interface Usage {
  readonly inputTokens: number
  readonly outputTokens: number
  readonly modelCalls: number
  readonly toolCalls: number
}

/** All that a late span needs of an effect. The machine never sees it. Times are epoch ms. */
export interface Work {
  readonly startedAt: number
  readonly endedAt: number
  readonly attempts: number
  readonly host: string
  /** Of a model's answer: its id in the server's words. */
  readonly responseId?: string | undefined
  /** Of a model's answer: from the start of the attempt that gave it to its first piece. */
  readonly firstChunkMs?: number | undefined
  /** "host:port" of the model's endpoint. */
  readonly address?: string | undefined
}

export interface StartInput {
  readonly kind: 'start'
  readonly input: Json
  /** What the manifests and tool lists said when the task began. It stays with the task, whatever is deployed meanwhile. */
  readonly definition: Json
  readonly limits: Limits
  /** The agents from the root down to the parent. */
  readonly path: readonly string[]
  /** What was said before, for machines that hold conversations. */
  readonly context?: Json
  readonly session?: string
  readonly parent?: { readonly agent: string; readonly effect: EffectId }
}

/** What an actor may receive: our words, not XState's, so that a journal outlives its version. */
export type Input =
  | StartInput
  | { readonly kind: 'result'; readonly effect: EffectId; readonly value: Json; readonly usage?: Usage; readonly work?: Work }
  | { readonly kind: 'error'; readonly effect: EffectId; readonly failure: Failure; readonly usage?: Usage; readonly work?: Work }
  | { readonly kind: 'signal'; readonly id: string; readonly name: string; readonly data: Json }
  /** A host takes over a delivery; fences the one before. */
  | { readonly kind: 'resumed'; readonly delivery: string }

/** What an actor may decide. `as` is its name inside the machine. */
export type Command =
  | { readonly kind: 'start'; readonly effect: string; readonly as: string; readonly input: Json }
  | { readonly kind: 'stop'; readonly as: string }
  | { readonly kind: 'emit'; readonly event: Json }

const LOCAL = 'local.'

/** Effect name of a function that a machine brings along; the dot keeps it apart from `model`, `tool` and `delegate`. */
export function localEffectName(source: string): string {
  return LOCAL + source
}

/** The function's name in its machine; undefined for every other effect. */
export function localSource(effect: string): string | undefined {
  return effect.startsWith(LOCAL) ? effect.slice(LOCAL.length) : undefined
}

export const OUTCOME_STATES = ['completed', 'failed', 'canceled', 'rejected'] as const
export type OutcomeState = (typeof OUTCOME_STATES)[number]

/** How a task ended: in A2A's words, with an output or a typed reason. */
export type Outcome =
  | { readonly state: 'completed'; readonly output: Json }
  | { readonly state: 'failed' | 'canceled' | 'rejected'; readonly failure: Failure }

export interface Entry {
  readonly n: number
  /** Epoch ms, read once by the host. */
  readonly at: number
  /** The message or effect that caused it: decided once. */
  readonly cause: string
  /** The physical message that owns the effects begun here. */
  readonly delivery: string
  /** Who sent the cause; on entry 0 it is who may send it again. */
  readonly from?: Party
  readonly input: Input
  readonly commands: readonly Command[]
  readonly outcome?: Outcome
  /** Trace context of the cause; always on entry 0, later only where a message brought its own. */
  readonly trace?: TraceContext
  /** Machine name and hash of its code. */
  readonly machine: string
  /** Hash of the machine's state after this entry. */
  readonly state: string
  /** Bodies that appear here for the first time, by sha256. */
  readonly parts?: Readonly<Record<string, Json>>
  /** Bodies that lie beside the journal as blobs, by sha256: their bytes. */
  readonly blobs?: Readonly<Record<string, number>>
  /** The whole actor, now and then. It is a cache: entries before it prove the same. */
  readonly snapshot?: Json
}

export const NO_USAGE: Usage = { inputTokens: 0, outputTokens: 0, modelCalls: 0, toolCalls: 0 }

export function addUsage(a: Usage, b: Usage | undefined): Usage {
  if (!b) return a
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    modelCalls: a.modelCalls + b.modelCalls,
    toolCalls: a.toolCalls + b.toolCalls,
  }
}

const SEAL_TAIL = /,"seal":"([0-9a-f]{64})"\}$/
const SEAL_TAIL_CHARS = ',"seal":""}'.length + 64

/** The text of an entry and its seal: sha256 over the seal before it and the entry. The seal is the last field of the text. */
export function sealEntry(entry: Entry, previousSeal: string): { readonly text: string; readonly seal: string } {
  const body = JSON.stringify(entry)
  const seal = sha256(previousSeal + body)
  return { text: `${body.slice(0, -1)},"seal":"${seal}"}`, seal }
}

const entryShape = z.looseObject({
  n: z.int().min(0),
  at: z.number(),
  cause: z.string(),
  delivery: z.string(),
  input: z.looseObject({ kind: z.enum(['start', 'result', 'error', 'signal', 'resumed']) }),
  commands: z.array(z.looseObject({ kind: z.enum(['start', 'stop', 'emit']) })),
  machine: z.string(),
  state: z.string(),
})

/** Reads a stored entry. Throws `journal_damaged` when it is no entry, or when its seal does not follow from `previousSeal`. */
export function openEntry(
  text: string,
  previousSeal: string | undefined,
  where: string,
): { readonly entry: Entry; readonly seal: string } {
  const seal = SEAL_TAIL.exec(text)?.[1]
  if (!seal) throw new KaosError('journal_damaged', `${where} has no seal`)
  const body = `${text.slice(0, -SEAL_TAIL_CHARS)}}`
  if (previousSeal !== undefined && sha256(previousSeal + body) !== seal) {
    throw new KaosError('journal_damaged', `${where} does not match its seal "${seal.slice(0, 12)}…"`)
  }
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch (error) {
    throw new KaosError('journal_damaged', `${where} is not JSON`, { cause: error })
  }
  const shape = entryShape.safeParse(value)
  if (!shape.success) throw new KaosError('journal_damaged', `${where} is no entry: ${z.prettifyError(shape.error)}`)
  return { entry: value as Entry, seal }
}
