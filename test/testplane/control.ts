/** How a test in another process stops and starts parts of the plane: one JSON request over the owner's Unix socket, one answer. */
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { json, text } from 'node:stream/consumers'
import type { Part } from './parts.ts'

const ANSWER_MS = 30_000

export interface ControlRequest {
  readonly do: 'kill' | 'start' | 'signal'
  readonly part: Part
  /** For `kill` and `signal`. */
  readonly signal?: NodeJS.Signals
}

/** What the owner can do with its children. */
export interface ControlledParts {
  start(part: Part): void
  signal(part: Part, signal: NodeJS.Signals): void
  kill(part: Part, signal?: NodeJS.Signals): Promise<void>
}

export interface ControlServer {
  close(): Promise<void>
}

export async function listenForControl(path: string, parts: ControlledParts): Promise<ControlServer> {
  const server = createServer((incoming, outgoing) => {
    void json(incoming)
      .then((body) => obey(body as ControlRequest, parts))
      .then(
        () => outgoing.end(),
        (error: Error) => outgoing.writeHead(400).end(error.message),
      )
  })
  server.listen(path)
  await once(server, 'listening')
  return {
    async close() {
      if (!server.listening) return
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

async function obey({ do: what, part, signal }: ControlRequest, parts: ControlledParts): Promise<void> {
  switch (what) {
    case 'kill':
      return parts.kill(part, signal)
    case 'start':
      return parts.start(part)
    case 'signal':
      return parts.signal(part, signal!)
  }
}

/** Rejects with the owner's words, or after 30 s. */
export async function sendControl(path: string, what: ControlRequest): Promise<void> {
  const outgoing = request({ socketPath: path, method: 'POST', path: '/', signal: AbortSignal.timeout(ANSWER_MS) })
  outgoing.end(JSON.stringify(what))
  const [incoming] = await once(outgoing, 'response')
  const answer = await text(incoming)
  if (incoming.statusCode !== 200) throw new Error(`the owner of the plane refused to ${what.do} "${what.part}": ${answer}`)
}
