/** Journals and tool servers' claims on JetStream: appends that are either stored, lost to another writer, or tried again; never "maybe". */
import type { Append, Claims, Journal, Stored } from './contracts.ts'
import { type HeaderPairs, JS_CODES, type Publisher, PublishFailed } from './publish/publish.ts'
import type { Reader, StoredMessage } from './read.ts'
import { KaosError } from './wire/errors.ts'
import { checkVersion, HEADERS, MESSAGE_VERSION } from './wire/message.ts'
import { type Subjects, streamNames } from './wire/subjects.ts'

export function createJournal(publisher: Publisher, reader: Reader, subjects: Subjects): Journal {
  const streamOf = (agent: string) => streamNames.agentJournal(subjects.namespace, agent)
  return {
    async read(agent, task, sequence) {
      return (await reader.getAll(streamOf(agent), subjects.journal(agent, task), sequence + 1)).map(toKnownEntry)
    },

    async readFromSnapshot(agent, task) {
      const stream = streamOf(agent)
      const subject = subjects.journal(agent, task)
      const [last] = await reader.get(stream, { last_by_subj: subject })
      if (!last) return []
      const snapshotAt = Number(last.header(HEADERS.snap) ?? 0)
      return (await reader.getAll(stream, subject, Math.max(1, snapshotAt))).map(toKnownEntry)
    },

    append(append: Append) {
      const { agent, task, slot, writer, text, snapshotAt, expected } = append
      const headers: HeaderPairs = [
        [HEADERS.version, MESSAGE_VERSION],
        [HEADERS.slot, slot],
        [HEADERS.snap, snapshotAt],
      ]
      return appendAfter(publisher, reader, {
        stream: streamOf(agent),
        subject: subjects.journal(agent, task),
        text,
        headers,
        writer,
        expected,
      })
    },
  }
}

export function createClaims(publisher: Publisher, reader: Reader, subjects: Subjects): Claims {
  const streamOf = (tool: string) => streamNames.toolDone(subjects.namespace, tool)
  return {
    async read(tool, effect) {
      const message = await reader.getLast(streamOf(tool), subjects.done(tool, effect))
      return message && toEntry(message)
    },
    put(tool, effect, { text, writer, expected }) {
      const headers: HeaderPairs = [[HEADERS.version, MESSAGE_VERSION]]
      return appendAfter(publisher, reader, {
        stream: streamOf(tool),
        subject: subjects.done(tool, effect),
        text,
        headers,
        writer,
        expected,
      })
    },
  }
}

interface Conditional {
  readonly stream: string
  readonly subject: string
  readonly text: string
  readonly headers: HeaderPairs
  readonly writer: string
  readonly expected: number
}

/**
 * Stores a message if `expected` is the last sequence of its subject. Only "wrong last sequence" can mean that another writer was first, and
 * even then it may be our own entry, whose acknowledgement was lost, or an answer from a server that is behind. What tells is the first
 * message after the expected one: the same writer means it is ours; nobody there means append again.
 */
function appendAfter(publisher: Publisher, reader: Reader, message: Conditional): Promise<number | 'lost'> {
  const { stream, subject, text, writer, expected } = message
  const headers: HeaderPairs = [...message.headers, [HEADERS.writer, writer], ['Nats-Expected-Last-Subject-Sequence', expected]]
  return publisher.persist(subject, async () => {
    try {
      return await publisher.publish(subject, text, headers)
    } catch (error) {
      if (!(error instanceof PublishFailed) || error.code !== JS_CODES.wrongLastSequence) throw error
      const [next] = await reader.get(stream, { seq: expected + 1, next_by_subj: subject, batch: 1 })
      if (!next) return undefined
      if (next.sequence <= expected) throw new KaosError('read_failed', `"${subject}" was read before sequence ${expected + 1}`)
      return next.header(HEADERS.writer) === writer ? next.sequence : 'lost'
    }
  })
}

/** Throws `unsupported_version`: an entry of a later version may mean what this program does not know, and must not look like damage. */
function toKnownEntry(message: StoredMessage): Stored {
  checkVersion(message)
  return toEntry(message)
}

function toEntry(message: StoredMessage): Stored {
  return { text: message.text, writer: message.header(HEADERS.writer) ?? '', sequence: message.sequence }
}
