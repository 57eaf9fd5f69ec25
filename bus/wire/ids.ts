/** Ids are positions: each says where in which task it stands, and nobody needs to look anything up. */
import { createHash } from 'node:crypto'
import { KaosError } from './errors.ts'
import { sha256 } from './json.ts'

/** `<root agent>_<key>`, or for a child the effect it answers. */
export type TaskId = string
/** `<task>_<n>-<k>`: command k of entry n. It is also the id of the child task that answers it. */
export type EffectId = string

/** A DNS label of at most 40 characters: agents, tool servers, users, namespaces and keys. */
const NAME = /^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$/
/** A position has one text: no leading zeros, because what is pending is looked up by its text. */
const TASK = /^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?_[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?(_(0|[1-9]\d{0,8})-(0|[1-9]\d{0,5}))*$/
const POSITION = /^(\d+)-(\d+)$/
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'

export function isName(text: string): boolean {
  return NAME.test(text)
}

/** Throws `bad_name` and says which one and for what. */
export function checkName(text: string, what: string): string {
  if (!isName(text))
    throw new KaosError('bad_name', `${what} "${text}" is not a DNS label of at most 40 characters (a-z, 0-9, "-")`)
  return text
}

export function isTaskId(text: string): boolean {
  return TASK.test(text)
}

export function rootTaskId(agent: string, key: string): TaskId {
  return `${agent}_${key}`
}

export function entryId(task: TaskId, n: number): string {
  return `${task}_${n}`
}

export function effectId(task: TaskId, n: number, k: number): EffectId {
  return `${task}_${n}-${k}`
}

/** Where an effect was begun; undefined when the text is no effect id. */
export function parseEffectId(effect: string): { readonly task: TaskId; readonly n: number; readonly k: number } | undefined {
  if (!isTaskId(effect)) return undefined
  const end = effect.lastIndexOf('_')
  const task = effect.slice(0, end)
  const match = POSITION.exec(effect.slice(end + 1))
  // Without a second "_" it is a root task whose key reads like a position.
  return match && task.includes('_') ? { task, n: Number(match[1]), k: Number(match[2]) } : undefined
}

export function isRootTask(task: TaskId): boolean {
  return parseEffectId(task) === undefined
}

/** The agent of the root task and the key under which its result stands. */
export function parseRootTask(task: TaskId): { readonly agent: string; readonly key: string } {
  const [agent = '', key = ''] = task.split('_')
  return { agent, key }
}

/** How deep a task is nested: 0 for a root. */
export function depthOf(task: TaskId): number {
  return task.split('_').length - 2
}

/** The key of a root task for the id that its sender gave. Ids that do not fit a subject become their hash. */
export function keyOf(namespace: string, agent: string, id: string): string {
  return isName(id) ? id : `h${base32(`${namespace}\n${agent}\n${id}`)}`
}

/** The key of a root task whose sender gave no id. */
export function keyOfCause(namespace: string, agent: string, cause: string): string {
  return `t${base32(`${namespace}\n${agent}\n${cause}`)}`
}

/** W3C span id of an entry or effect: the same after every crash, so that a span can be written twice and still be one. */
export function spanIdOf(traceId: string, position: string): string {
  return sha256(traceId + position).slice(0, 16)
}

/** Span of the whole actor: its place is entry 0. */
export function actorSpanId(traceId: string, task: TaskId): string {
  return spanIdOf(traceId, entryId(task, 0))
}

/** Span of the tool server's own work on a call. */
export function executionSpanId(traceId: string, effect: string): string {
  return spanIdOf(traceId, `${effect}/execute`)
}

/** 26 base32 characters of sha256. */
function base32(text: string): string {
  const bytes = createHash('sha256').update(text).digest()
  let out = ''
  let bits = 0
  let value = 0
  for (const byte of bytes) {
    value = (value << 8) | byte
    bits += 8
    while (bits >= 5 && out.length < 26) {
      out += BASE32[(value >>> (bits - 5)) & 31]
      bits -= 5
    }
    value &= (1 << bits) - 1
  }
  return out
}
