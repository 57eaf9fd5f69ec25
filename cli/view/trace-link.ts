/** A link from a trace to a tracing backend, for people: where KAOS_TRACE_URL_TEMPLATE says. */
import { say } from './terminal.ts'

/** What may stand in braces. */
const FIELDS = ['trace_id', 'task'] as const

export interface TraceLinkTarget {
  /** 32 hex digits. */
  readonly trace: string
  /** Its root task. */
  readonly task: string
}

/** The link to a trace; undefined when no template is set. Says so when one is set that cannot be used. */
export function linkOf(target: TraceLinkTarget): string | undefined {
  const { template, mistake } = readTraceLink(process.env)
  if (mistake !== undefined) say(mistake)
  return template === undefined ? undefined : traceLink(template, target)
}

/** The template when it can be used, else why not; neither when none is set. */
export function readTraceLink(env: NodeJS.ProcessEnv): { readonly template?: string; readonly mistake?: string } {
  const template = env.KAOS_TRACE_URL_TEMPLATE
  if (!template) return {}
  const mistake = mistakeIn(template)
  if (mistake === undefined) return { template }
  return { mistake: `could not use KAOS_TRACE_URL_TEMPLATE ${JSON.stringify(template)}: ${mistake}, so no link is shown` }
}

/** Of a template that `readTraceLink` gave. */
export function traceLink(template: string, { trace, task }: TraceLinkTarget): string {
  return template.replaceAll('{trace_id}', encodeURIComponent(trace)).replaceAll('{task}', encodeURIComponent(task))
}

function mistakeIn(template: string): string | undefined {
  if (!template.includes('{trace_id}')) return 'it does not hold {trace_id}'
  const unknown = [...template.matchAll(/\{(\w*)\}/g)].map(([, name]) => name!).find((name) => !isField(name))
  if (unknown !== undefined) return `{${unknown}} is none of {${FIELDS.join('}, {')}}`
  // Parsed with values in it: what is between braces is no character of a URL.
  const url = URL.parse(traceLink(template, { trace: '0'.repeat(32), task: 'agent_key' }))
  if (!url || !/^https?:$/.test(url.protocol)) return 'it is no URL that begins with http:// or https://'
  return /[^\x21-\x7e]/.test(template) ? 'it holds a space, a control character or a letter that must be encoded' : undefined
}

function isField(name: string): boolean {
  return FIELDS.some((field) => field === name)
}
