/** What an exporter's error says: whether to send again, to send less at once, or not to send there at all. */

export type Answer =
  /** `afterMs`: as the receiver asks. */
  | { readonly kind: 'retry'; readonly afterMs?: number }
  | { readonly kind: 'too-large' }
  /** The receiver does not take this signal. */
  | { readonly kind: 'unsupported' }
  | { readonly kind: 'refused' }

const RESOURCE_EXHAUSTED = 8
const UNIMPLEMENTED = 12
/** CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS: retryable by the specification of OTLP. */
const GRPC_RETRYABLE: readonly number[] = [1, 4, 10, 11, 14, 15]
const GRPC_CODE_MAX = 16

const HTTP_UNSUPPORTED: readonly number[] = [404, 501]
const HTTP_TOO_LARGE = 413
const HTTP_RETRYABLE: readonly number[] = [429, 502, 503, 504]
/** The HTTP exporter gives up on these with the words alone. */
const HTTP_GIVEN_UP = /retryable status|timed out/i

const NETWORK_ERROR = /^E(CONN|PIPE|TIMEDOUT|AI_AGAIN|NOTFOUND|NETUNREACH|HOSTUNREACH)/

export function readAnswer(error: unknown): Answer {
  const { code, message = '', metadata } = (error ?? {}) as ExporterError
  if (typeof code === 'string') return { kind: NETWORK_ERROR.test(code) ? 'retry' : 'refused' }
  if (code === undefined) return { kind: HTTP_GIVEN_UP.test(message) ? 'retry' : 'refused' }
  if (code > GRPC_CODE_MAX) {
    if (HTTP_UNSUPPORTED.includes(code)) return { kind: 'unsupported' }
    if (code === HTTP_TOO_LARGE) return { kind: 'too-large' }
    return { kind: HTTP_RETRYABLE.includes(code) ? 'retry' : 'refused' }
  }
  if (code === UNIMPLEMENTED) return { kind: 'unsupported' }
  const afterMs = retryInfoMs(metadata?.get?.('grpc-status-details-bin')?.[0])
  if (code === RESOURCE_EXHAUSTED && afterMs === undefined)
    return { kind: /larger than max|too large/i.test(message) ? 'too-large' : 'refused' }
  if (code !== RESOURCE_EXHAUSTED && !GRPC_RETRYABLE.includes(code)) return { kind: 'refused' }
  return { kind: 'retry', ...(afterMs !== undefined && { afterMs }) }
}

interface ExporterError {
  readonly code?: number | string
  readonly message?: string
  readonly metadata?: { get?(key: string): readonly (string | Buffer)[] }
}

const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo'

/**
 * The delay of a RetryInfo inside a google.rpc.Status; undefined where there is none. After its type comes the field `value` (tag 0x12, length),
 * in it the delay (tag 0x0a, length), in it seconds (tag 0x08) and nanoseconds (tag 0x10) as varints; zeros are left out.
 */
function retryInfoMs(details: string | Buffer | undefined): number | undefined {
  if (!Buffer.isBuffer(details)) return undefined
  const at = details.indexOf(RETRY_INFO, 0, 'latin1')
  if (at < 0) return undefined
  const value = details.subarray(at + RETRY_INFO.length)
  if (value[0] !== 0x12 || value[2] !== 0x0a) return 0
  const delay = value.subarray(4, 4 + (value[3] ?? 0))
  let ms = 0
  for (let i = 0; i < delay.length; ) {
    const tag = delay[i++]
    let number = 0
    for (let shift = 1; i < delay.length; shift *= 128) {
      const byte = delay[i++]!
      number += (byte & 0x7f) * shift
      if (byte < 0x80) break
    }
    ms += tag === 0x08 ? number * 1_000 : tag === 0x10 ? number / 1_000_000 : 0
  }
  return ms
}
