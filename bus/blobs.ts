/** Large bodies beside the journals, in parts that are plain messages: created once, read by their own subjects. */
import type { Blobs } from './contracts.ts'
import { type HeaderPairs, JS_CODES, type Publisher, PublishFailed } from './publish/publish.ts'
import type { Reader } from './read.ts'
import { KaosError } from './wire/errors.ts'
import { sha256 } from './wire/json.ts'
import { MESSAGE_LIMITS } from './wire/limits.ts'
import { HEADERS, MESSAGE_VERSION } from './wire/message.ts'
import { partyText, type Subjects, storeOf } from './wire/subjects.ts'

export function createBlobs(publisher: Publisher, reader: Reader, subjects: Subjects): Blobs {
  const lanes = new Lanes(MESSAGE_LIMITS.blobPartsInFlightMax)

  async function writePart(stream: string, subject: string, part: Uint8Array): Promise<void> {
    const headers: HeaderPairs = [[HEADERS.version, MESSAGE_VERSION]]
    await publisher.persist(subject, async () => {
      try {
        return await publisher.publish(subject, part, [...headers, ['Nats-Expected-Last-Subject-Sequence', 0]])
      } catch (error) {
        if (!(error instanceof PublishFailed) || error.code !== JS_CODES.wrongLastSequence) throw error
        // It is there, with the same bytes: perhaps of a task of the same id that ended long ago, and about to be removed.
        const stored = await reader.getLast(stream, subject)
        const isFresh = stored && Date.now() - stored.at < MESSAGE_LIMITS.blobFreshMs
        return isFresh ? 0 : await publisher.publish(subject, part, headers)
      }
    })
  }

  return {
    async write(owner, to, task, sha, body) {
      const bytes = Buffer.from(body)
      if (bytes.length > MESSAGE_LIMITS.bodyBytesMax) {
        throw new KaosError(
          'payload_too_large',
          `a body of task "${task}" has ${bytes.length} bytes; at most ${MESSAGE_LIMITS.bodyBytesMax} are allowed`,
        )
      }
      const stream = storeOf(subjects.namespace, owner)
      const writes: Promise<void>[] = []
      for (let part = 0; part * MESSAGE_LIMITS.blobPartBytes < bytes.length; part++) {
        const piece = bytes.subarray(part * MESSAGE_LIMITS.blobPartBytes, (part + 1) * MESSAGE_LIMITS.blobPartBytes)
        writes.push(lanes.run(() => writePart(stream, subjects.blob(owner, to, task, sha, part), piece)))
      }
      await Promise.all(writes)
    },

    async read(owner, to, task, sha) {
      const stream = storeOf(subjects.namespace, owner)
      const parts: Uint8Array[] = []
      for (let part = 0; part * MESSAGE_LIMITS.blobPartBytes <= MESSAGE_LIMITS.bodyBytesMax; part++) {
        const message = await reader.getLast(stream, subjects.blob(owner, to, task, sha, part))
        if (!message) break
        parts.push(message.data)
        if (message.data.length < MESSAGE_LIMITS.blobPartBytes) break
      }
      const body = Buffer.concat(parts).toString('utf8')
      if (sha256(body) !== sha) {
        throw new KaosError(
          'body_missing',
          `body "${sha.slice(0, 12)}…" of task "${task}" is not complete in the store of ${partyText(owner)}`,
        )
      }
      return body
    },
  }
}

/** Lets so many run at once, in order. */
class Lanes {
  private free: number
  private readonly waiting: (() => void)[] = []

  constructor(lanes: number) {
    this.free = lanes
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.free === 0) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.free--
    try {
      return await work()
    } finally {
      const next = this.waiting.shift()
      if (next) next()
      else this.free++
    }
  }
}
