/** Ports on the loopback: which one a new server may try, and who answers there. */
import { randomInt } from 'node:crypto'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/*
 * Below the range from which systems take the ports of outgoing connections (32768 and 49152 up), so that a server that restarts finds its
 * port free: a client that keeps dialing a port of that range may even connect to itself and hold it.
 */
const PORT_MIN = 14_000
const PORT_MAX = 28_000
const ANSWER_MS = 500

export function randomPort(): number {
  return randomInt(PORT_MIN, PORT_MAX)
}

/** Whether anybody accepts connections there. Asked before a bind, because macOS lets a loopback bind succeed beside a wildcard one. */
export async function isPortTaken(host: string, port: number): Promise<boolean> {
  return (await greetingAt(host, port)) !== undefined
}

/** `server_name` of the NATS server at this address, '' if somebody else answers or nothing is said, undefined if nobody accepts. */
export async function greetingAt(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    let isAccepted = false
    let text = ''
    const socket = connect({ host, port })
    const finish = (name: string | undefined) => {
      socket.destroy()
      resolve(name)
    }
    socket.setTimeout(ANSWER_MS, () => finish(isAccepted ? '' : undefined))
    socket.once('connect', () => {
      isAccepted = true
    })
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.includes('\r\n') || text.length > 65_536) finish(serverName(text))
    })
    socket.once('error', () => finish(isAccepted ? '' : undefined))
    socket.once('end', () => finish(''))
  })
}

/** Waits until nobody accepts connections any more; false if somebody still does at the deadline. */
export async function waitUntilRefused(host: string, port: number, deadlineMs: number): Promise<boolean> {
  const deadline = Date.now() + deadlineMs
  while (await isPortTaken(host, port)) {
    if (Date.now() > deadline) return false
    await delay(20)
  }
  return true
}

function serverName(greeting: string): string {
  const info = /^INFO (\{.*\})/.exec(greeting)?.[1]
  try {
    return String(JSON.parse(info ?? '{}').server_name ?? '')
  } catch {
    return ''
  }
}
