/** Every message that travels: on which subject, from whom to whom, with which body and headers. The schemas in docs/messages/ come from here. */
import { z } from 'zod'
import { catalogShapes } from '../bus/wire/catalog.ts'
import { messageShapes } from '../bus/wire/message.ts'
import { headerShapes, recordShapes } from '../bus/wire/shapes.ts'

export interface MessageKind {
  /** Of its body, which is `docs/messages/<schema>.json`; absent where it is text or bytes. */
  readonly schema?: SchemaName
  /** Of its headers, which is `docs/messages/headers/<headers>.json`. */
  readonly headers: keyof typeof headerShapes
  /** A name in `<>` stands for one token. */
  readonly subject: string
  /** A body over 64 KiB may lie elsewhere: the message then carries `blob`. */
  readonly mayBeBlob?: true
  /** What else the body may be. */
  readonly or?: SchemaName | 'text' | 'nothing' | 'anything'
  readonly from: string
  readonly to: string
  readonly what: string
}

export const shapes = {
  ...messageShapes,
  ...recordShapes,
  'agent-card': catalogShapes.agent,
  'tool-list': catalogShapes.tool,
} as const
export type SchemaName = keyof typeof shapes

const agent = 'kaos.<namespace>.agent.<agent>'
const tool = 'kaos.<namespace>.tool.<server>'
const door = {
  schema: 'task',
  headers: 'task',
  mayBeBlob: true,
  or: 'text',
  from: 'anybody',
  to: 'the agent',
  what: 'a task',
} as const
const blob = { headers: 'blob', or: 'anything', to: 'the party after `blob`', what: 'one part of a body over 64 KiB' } as const
const dead = { headers: 'dead', or: 'anything', to: 'people', what: 'mail that could not be processed, as it came' } as const

export const messageKinds: readonly MessageKind[] = [
  { ...door, subject: `${agent}.task` },
  { ...door, subject: `${agent}.task.user.<user>`, from: 'that user' },
  {
    schema: 'start',
    headers: 'mail',
    subject: `${agent}.mail.start.agent.<from>.<task>`,
    mayBeBlob: true,
    from: 'the agent that delegates',
    to: 'the agent',
    what: 'a delegation',
  },
  {
    schema: 'reply',
    headers: 'mail',
    subject: `${agent}.mail.reply.<kind>.<from>.<effect>`,
    mayBeBlob: true,
    from: 'who was asked: `agent`, `tool` or `user`',
    to: 'the agent that asked',
    what: 'the answer to an effect',
  },
  {
    headers: 'mail',
    subject: `${agent}.mail.signal.<verb>.<kind>.<from>.<task>`,
    or: 'anything',
    from: 'who may',
    to: 'the agent',
    what: "`cancel` with no body, or a machine's own event with any JSON",
  },
  {
    schema: 'entry',
    headers: 'entry',
    subject: `${agent}.journal.<task>`,
    from: 'a host of the agent',
    to: 'itself and readers of the record',
    what: 'one decided input',
  },
  { ...blob, subject: `${agent}.blob.<kind>.<to>.<task>.<sha256>.<part>`, from: 'the agent' },
  {
    schema: 'call',
    headers: 'mail',
    subject: `${tool}.call.agent.<from>.<effect>`,
    mayBeBlob: true,
    from: 'the agent that calls',
    to: 'the tool server',
    what: 'a tool call',
  },
  {
    schema: 'claim',
    headers: 'done',
    subject: `${tool}.done.<effect>`,
    mayBeBlob: true,
    or: 'reply',
    from: 'the tool server',
    to: 'itself',
    what: 'first the claim on a call, then the reply to it',
  },
  { ...blob, subject: `${tool}.blob.<kind>.<to>.<task>.<sha256>.<part>`, from: 'the tool server' },
  {
    schema: 'result',
    headers: 'record',
    subject: 'kaos.<namespace>.result.<agent>.<key>',
    mayBeBlob: true,
    from: 'the agent',
    to: 'clients',
    what: 'how a root task ended, the first on its subject',
  },
  {
    schema: 'trace',
    headers: 'record',
    subject: 'kaos.<namespace>.trace.<trace>.<agent>.<task>',
    from: 'the agent',
    to: 'clients',
    what: 'the index of traces: `working`, then the outcome',
  },
  {
    schema: 'progress',
    headers: 'none',
    subject: 'kaos.<namespace>.progress.<trace>.<agent>.<task>',
    from: 'a host of the agent',
    to: 'people who watch',
    what: 'what happens; nothing is stored',
  },
  { ...dead, subject: 'kaos.<namespace>.dead.agent.<agent>', from: 'the agent' },
  { ...dead, subject: 'kaos.<namespace>.dead.tool.<server>', from: 'the tool server' },
  {
    schema: 'task',
    headers: 'task',
    subject: 'kaos.<namespace>.ask.<agent>',
    or: 'text',
    from: 'anybody, as a request',
    to: '`kaos up`',
    what: 'a task whose reply is its result: text, other JSON, or `ask-failure`; headers `ask-answer`',
  },
  {
    headers: 'none',
    subject: `${agent}.host.<host>`,
    or: 'text',
    from: 'another host',
    to: 'that host',
    what: '"do you hold this delivery?", answered with `held` or `free`',
  },
  { headers: 'none', subject: `${tool}.host.<host>`, or: 'text', from: 'another host', to: 'that host', what: 'the same' },
  {
    schema: 'agent-card',
    headers: 'none',
    subject: '$KV.kaos_catalog.<namespace>.agent.<agent>',
    from: '`kaos up`, or a host of the agent',
    to: 'everybody',
    what: 'what an agent says of itself',
  },
  {
    schema: 'tool-list',
    headers: 'none',
    subject: '$KV.kaos_catalog.<namespace>.tool.<server>',
    from: 'the tool server',
    to: 'agents',
    what: 'its tools with their schemas',
  },
]

/** The kind of a message; undefined for a subject that nobody should write to. */
export function kindOf(subject: string): MessageKind | undefined {
  return messageKinds.find((kind) => patternOf(kind.subject).test(subject))
}

function patternOf(subject: string): RegExp {
  const tokens = subject.split('.').map((token) => (token.startsWith('<') ? '[^.]+' : token.replaceAll('$', '\\$')))
  return new RegExp(`^${tokens.join('\\.')}$`)
}

/** All schemas as files, by their paths below docs/messages/. */
export function schemaFiles(): ReadonlyMap<string, string> {
  const bodies = Object.entries(shapes).map(([name, shape]) => [`${name}.json`, schemaText(`Body: ${name}`, shape)] as const)
  const headers = Object.entries(headerShapes)
    .filter(([name]) => name !== 'none')
    .map(([name, shape]) => [`headers/${name}.json`, schemaText(`Headers: ${name}`, shape)] as const)
  return new Map([...bodies, ...headers])
}

/** Readers ignore fields they do not know, so no schema forbids them: what a shape takes in, not what it gives out. */
function schemaText(title: string, shape: z.ZodType): string {
  const schema = z.toJSONSchema(shape, {
    target: 'draft-2020-12',
    io: 'input',
    unrepresentable: 'any',
    override({ jsonSchema }) {
      // Whole numbers are bounded by what a double can count; that bound is not worth a line.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
    },
  })
  const { $schema, ...rest } = schema
  return `${withShortLists(JSON.stringify({ $schema, title, ...rest }, null, 2))}\n`
}

const LINE_COLUMNS = 130

/** Lists of plain values on one line where they fit, as the formatter of the repository has them. */
function withShortLists(text: string): string {
  return text.replace(/^(.*)\[\n([^[\]{}]*)\n *\](,?)$/gm, (all, before: string, values: string, comma: string) => {
    const line = `${before}[${values
      .split('\n')
      .map((value) => value.trim())
      .join(' ')}]${comma}`
    return line.length <= LINE_COLUMNS ? line : all
  })
}

/** The table of docs/messages.md. */
export function messageTable(): string {
  const link = (name: string) => `[${name}](messages/${name}.json)`
  const rows = messageKinds.map(({ schema, headers, subject, mayBeBlob, or, from, to, what }) => {
    const named = or === undefined || or in shapes ? or && link(or) : or
    const body = [schema && link(schema), named, mayBeBlob && link('blob')].filter(Boolean).join(' or ')
    const head = headers === 'none' ? '-' : `[${headers}](messages/headers/${headers}.json)`
    return `| \`${subject}\` | ${what} | ${from} → ${to} | ${body} | ${head} |`
  })
  return ['| subject | what | from → to | body | headers |', '| --- | --- | --- | --- | --- |', ...rows].join('\n')
}
