/** Bodies that are larger than a message may carry: they lie as blobs in their sender's store, and the message says where. */
import type { Blobs } from '../contracts.ts'
import { KaosError } from '../wire/errors.ts'
import { sha256 } from '../wire/json.ts'
import { MESSAGE_LIMITS } from '../wire/limits.ts'
import { blobBody, type Outgoing } from '../wire/message.ts'

/** The body as it goes into the message; stores it as a blob first where it is too large. Throws `payload_too_large`. */
export async function withoutOverflow({ body, overflow }: Outgoing, blobs: Blobs): Promise<string> {
  const bytes = Buffer.byteLength(body)
  if (!overflow || bytes <= MESSAGE_LIMITS.inlineBytesMax) return body
  if (bytes > MESSAGE_LIMITS.bodyBytesMax) {
    throw new KaosError(
      'payload_too_large',
      `a message of task "${overflow.task}" has ${bytes} bytes; at most ${MESSAGE_LIMITS.bodyBytesMax} are allowed`,
    )
  }
  const sha = sha256(body)
  await blobs.write(overflow.owner, overflow.to, overflow.task, sha, body)
  return blobBody({ ...overflow, sha, bytes })
}
