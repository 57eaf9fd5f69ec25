/** Fetches text from hosts of an allow-list, redirects followed by hand so that each target is checked as the first one was. */
import { type Dispatcher, fetch, type Response } from 'undici'
import { Refusal } from '../../own/mcp-server.ts'
import { isListed, isPublicAddress, literalAddress } from './address.ts'
import { FETCH_LIMITS } from './limits.ts'
import { privateAddress } from './public-agent.ts'

export interface FetchPolicy {
  readonly hosts: readonly string[]
  readonly allowPrivate: boolean
  readonly dispatcher: Dispatcher
}

export interface FetchedText {
  /** After redirects. */
  readonly url: string
  readonly status: number
  /** Empty where there is none. */
  readonly contentType: string
  readonly body: string
  /** Whether the body was longer than `FETCH_LIMITS.bodyBytesMax` and is cut. */
  readonly isCut: boolean
}

const TEXT_TYPE =
  /^(text\/[\w.+-]+|application\/([\w.-]+\+)?(json|xml|yaml)|application\/(x-yaml|toml|javascript|ecmascript|x-www-form-urlencoded|x-ndjson|jsonl|graphql|sql)|image\/svg\+xml)$/
type Decoder = InstanceType<typeof TextDecoder>

const REDIRECTS = [301, 302, 303, 307, 308]

/** Throws Refusal for what the policy does not allow and for what is no text, Error for what failed on the way. */
export async function fetchText(
  given: string,
  method: 'GET' | 'HEAD',
  policy: FetchPolicy,
  signal: AbortSignal,
): Promise<FetchedText> {
  const deadline = AbortSignal.timeout(FETCH_LIMITS.timeoutMs)
  const either = AbortSignal.any([signal, deadline])
  let url = checked(given, undefined, policy)
  for (let redirects = 0; ; redirects++) {
    const response = await send(url, method, policy.dispatcher, either, deadline)
    const location = REDIRECTS.includes(response.status) ? response.headers.get('location') : null
    if (location === null) return await read(url, method, response, deadline)
    discard(response)
    if (redirects === FETCH_LIMITS.redirectsMax)
      throw new Refusal(`"${given}" redirects more than ${FETCH_LIMITS.redirectsMax} times`)
    url = checked(location, url, policy)
  }
}

function checked(text: string, from: URL | undefined, { hosts, allowPrivate }: FetchPolicy): URL {
  const what = from ? `the redirect from "${from.href}" to ${JSON.stringify(text)}` : `url ${JSON.stringify(text)}`
  const refuse = (why: string) => new Refusal(`${what} is refused: ${why}`)
  const url = URL.parse(text, from?.href)
  if (!url) throw refuse('it is no URL')
  if (url.href.length > FETCH_LIMITS.urlLengthMax) throw refuse(`it is longer than ${FETCH_LIMITS.urlLengthMax} characters`)
  if (!/^https?:$/.test(url.protocol)) throw refuse('only http and https are allowed')
  if (url.username || url.password) throw refuse('it has a user or a password in it')
  if (!isListed(url, hosts)) throw refuse(`host "${url.host}" is not allowed; allowed: ${hosts.join(', ')}`)
  const literal = literalAddress(url.hostname)
  if (literal !== undefined && !allowPrivate && !isPublicAddress(literal)) throw privateAddress(url.hostname, literal)
  url.hash = ''
  return url
}

async function send(
  url: URL,
  method: string,
  dispatcher: Dispatcher,
  signal: AbortSignal,
  deadline: AbortSignal,
): Promise<Response> {
  try {
    return await fetch(url, { method, dispatcher, signal, redirect: 'manual', headers: { 'user-agent': 'kaos-actors' } })
  } catch (error) {
    throw failure(url, error, deadline)
  }
}

async function read(url: URL, method: string, response: Response, deadline: AbortSignal): Promise<FetchedText> {
  const contentType = response.headers.get('content-type') ?? ''
  const found = { url: url.href, status: response.status, contentType }
  if (method === 'HEAD' || !response.body) return { ...found, body: '', isCut: false }
  const [type = ''] = contentType.toLowerCase().split(';')
  if (!TEXT_TYPE.test(type.trim())) {
    discard(response)
    const is = contentType === '' ? 'no content type' : `the content type "${contentType}"`
    throw new Refusal(`"${url.href}" (status ${response.status}) has ${is}; only text, JSON, XML, YAML and the like can be read`)
  }
  const decoder = decoderOf(contentType)
  if (!decoder) {
    discard(response)
    throw new Refusal(`"${url.href}" is in an unknown character set: "${contentType}"`)
  }
  try {
    return { ...found, ...(await readBounded(response.body, decoder)) }
  } catch (error) {
    throw failure(url, error, deadline)
  }
}

async function readBounded(stream: NonNullable<Response['body']>, decoder: Decoder): Promise<{ body: string; isCut: boolean }> {
  let body = ''
  let left: number = FETCH_LIMITS.bodyBytesMax
  // Leaving the loop closes the connection: the rest is not read.
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    body += decoder.decode(chunk.subarray(0, left), { stream: true })
    // A character that the cut goes through is left out.
    if (chunk.length > left) return { body, isCut: true }
    left -= chunk.length
  }
  return { body: body + decoder.decode(), isCut: false }
}

function decoderOf(contentType: string): Decoder | undefined {
  const charset = /charset\s*=\s*"?([^";\s]+)/i.exec(contentType)?.[1] ?? 'utf-8'
  try {
    return new TextDecoder(charset)
  } catch {
    return undefined
  }
}

function discard(response: Response): void {
  void response.body?.cancel().catch(() => {}) // it is not wanted, whatever becomes of it
}

/** fetch says only that it failed; why stands in the causes. */
function failure(url: URL, error: unknown, deadline: AbortSignal): Error {
  let cause = error
  while (cause instanceof Error && cause.cause !== undefined && !(cause instanceof Refusal)) cause = cause.cause
  if (cause instanceof Refusal) return cause
  if (deadline.aborted)
    return new Error(`could not fetch "${url.href}": it took longer than ${FETCH_LIMITS.timeoutMs} ms`, { cause: error })
  const { message = '', code = '' } = cause as Partial<NodeJS.ErrnoException>
  return new Error(`could not fetch "${url.href}": ${message || code || String(error)}`, { cause: error })
}
