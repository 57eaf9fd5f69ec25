/** An embedded nats-server: started on the loopback with a store of its own, ready when JetStream answers, gone when this process is gone. */
import { randomBytes } from 'node:crypto'
import { mkdir, realpath, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Logger, silentLog } from '../../telemetry/log.ts'
import type { BrokerSettings } from '../access/settings.ts'
import { connectBroker } from '../connection.ts'
import { KaosError } from '../wire/errors.ts'
import { readLogTail } from './log-tail.ts'
import { greetingAt, isPortTaken, randomPort } from './port.ts'
import { reasonOf } from './reason.ts'
import { recordServer, waitUntilStoreIsFree } from './store-owner.ts'
import { runWatched, type ServerExit, WATCHDOG_GRACE_MS, type Watched } from './watchdog.ts'

const READY_MS = 10_000
/** Beyond the grace: for the shell to notice. */
const STOP_MARGIN_MS = 2_000
const PORT_TRIES_MAX = 20
const PROBE_MS = 10

export interface ServerOptions {
  /** nats-server, as `findServer` returns it. */
  readonly binary: string
  /** Streams, configuration, pid and log of the server; created if absent. One server at a time works on it. */
  readonly storeDir: string
  /** 0: any free port. `{ prefer }`: this one, or any free port if it is taken. */
  readonly port: number | { readonly prefer: number }
  /** Default 127.0.0.1. */
  readonly host?: string
  /** Default `<storeDir>/nats-server.log`. */
  readonly logFile?: string
  /** More lines for the configuration file, such as accounts. */
  readonly config?: string
  /** How the readiness probe identifies itself when `config` asks for it. */
  readonly access?: Pick<BrokerSettings, 'identity' | 'tls'>
  /** How long JetStream may take to answer; it recovers all streams first. */
  readonly readyMs?: number
  /** How long the server has to end after SIGTERM before it is killed; default 5 s. */
  readonly graceMs?: number
  readonly log?: Logger
}

const graceOf = (options: ServerOptions): number => options.graceMs ?? WATCHDOG_GRACE_MS

export interface EmbeddedServer {
  readonly url: string
  readonly host: string
  readonly port: number
  /** Of nats-server. */
  readonly pid: number
  readonly storeDir: string
  readonly logFile: string
  /** Resolves when the server is gone, whoever ended it; never rejects. */
  readonly exited: Promise<ServerExit>
  /** Ends the server: SIGTERM, after its grace SIGKILL. Resolves when it is gone; may be called again. */
  stop(): Promise<void>
  /** kill -9, for tests. Resolves when it is gone. */
  kill(): Promise<void>
}

/** Throws `broker_failed` with the last lines of the server's log when it ends or JetStream does not answer in time. */
export async function startServer(options: ServerOptions): Promise<EmbeddedServer> {
  await mkdir(options.storeDir, { recursive: true })
  const storeDir = await realpath(options.storeDir)
  const host = options.host ?? '127.0.0.1'
  const configFile = join(storeDir, 'nats-server.conf')
  await waitUntilStoreIsFree(storeDir, configFile, graceOf(options) + STOP_MARGIN_MS)

  const isPortFixed = typeof options.port === 'number' && options.port !== 0
  for (let tries = 1; ; tries += 1) {
    const port = portToTry(options.port, tries)
    const isLastTry = isPortFixed || tries === PORT_TRIES_MAX
    if (await isPortTaken(host, port)) {
      if (isLastTry) throw new KaosError('broker_failed', `could not start nats-server: port "${port}" of "${host}" is taken`)
      continue
    }
    try {
      return await startOnPort(options, { storeDir, host, port, configFile })
    } catch (error) {
      // Somebody was faster between the look and the bind.
      if (isLastTry || !(error instanceof KaosError) || !error.message.includes('address already in use')) throw error
    }
  }
}

interface Place {
  readonly storeDir: string
  readonly host: string
  readonly port: number
  readonly configFile: string
}

async function startOnPort(options: ServerOptions, place: Place): Promise<EmbeddedServer> {
  const { storeDir, host, port, configFile } = place
  const log = options.log ?? silentLog()
  const logFile = options.logFile ?? join(storeDir, 'nats-server.log')
  const name = `kaos-${randomBytes(6).toString('hex')}`
  const startedAt = Date.now()
  const logStart = await stat(logFile).then(
    (found) => found.size,
    () => 0,
  )
  await writeFile(configFile, configText({ name, host, port, storeDir, logFile, more: options.config }), { mode: 0o600 })
  const watched = await startWatched(options, configFile, logFile)
  const url = `nats://${host}:${port}`
  try {
    await recordServer(storeDir, watched.pid)
    const deadline = startedAt + (options.readyMs ?? READY_MS)
    await waitUntilItListens({ host, port, name, deadline }, watched)
    await Promise.race([failWhenGone(watched), askJetStream(url, options, log)])
  } catch (error) {
    watched.kill()
    await watched.exited
    const lines = (await readLogTail(logFile, logStart)).map((line) => `\n  ${line}`).join('')
    throw new KaosError(
      'broker_failed',
      `could not start "${options.binary}" on "${url}": ${reasonOf(error)}; the end of its log "${logFile}":${lines || ' (empty)'}`,
      { cause: error },
    )
  }
  log.debug({ url, pid: watched.pid, store: storeDir, ms: Date.now() - startedAt }, 'embedded nats-server is ready')
  return serverOf(place, url, logFile, watched, graceOf(options) + STOP_MARGIN_MS)
}

function serverOf(
  { storeDir, host, port }: Place,
  url: string,
  logFile: string,
  watched: Watched,
  stopMs: number,
): EmbeddedServer {
  const { pid, exited } = watched
  return {
    url,
    host,
    port,
    pid,
    storeDir,
    logFile,
    exited,
    async stop() {
      watched.end()
      await Promise.race([exited, delay(stopMs, undefined, { ref: false })])
      watched.kill()
      await exited
    },
    async kill() {
      watched.kill()
      await exited
    },
  }
}

function portToTry(port: ServerOptions['port'], tries: number): number {
  if (typeof port === 'object') return tries === 1 ? port.prefer : randomPort()
  return port === 0 ? randomPort() : port
}

async function startWatched(options: ServerOptions, configFile: string, logFile: string): Promise<Watched> {
  const { binary } = options
  try {
    return await runWatched(binary, configFile, logFile, graceOf(options))
  } catch (error) {
    throw new KaosError('broker_failed', `could not start "${binary}" under /bin/sh: ${reasonOf(error)}`, { cause: error })
  }
}

async function failWhenGone(watched: Watched): Promise<never> {
  const { code } = await watched.exited
  throw new Error(`it ended with code ${code}`)
}

/** The server listens only after JetStream has recovered its streams. By name, since another server may hold the port by now. */
async function waitUntilItListens(
  { host, port, name, deadline }: { host: string; port: number; name: string; deadline: number },
  watched: Watched,
): Promise<void> {
  while ((await greetingAt(host, port)) !== name) {
    if (Date.now() > deadline) throw new Error('it did not listen in time')
    await Promise.race([failWhenGone(watched), delay(PROBE_MS)])
  }
}

async function askJetStream(url: string, { access }: ServerOptions, log: Logger): Promise<void> {
  const settings: BrokerSettings = { servers: [url], source: 'embedded', identity: access?.identity ?? { kind: 'none' } }
  const connection = await connectBroker(access?.tls ? { ...settings, tls: access.tls } : settings, {
    name: 'kaos readiness probe',
    log,
  })
  await connection.close()
}

interface ConfigParts {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly storeDir: string
  readonly logFile: string
  readonly more: string | undefined
}

/*
 * max_file_store: a stream with max_bytes reserves them, and the default limit is three quarters of the free disk: a few agents with a
 * mail guard of 4 GiB each would be refused on a small disk (10047) that never gets to hold so much.
 */
function configText({ name, host, port, storeDir, logFile, more }: ConfigParts): string {
  const quote = (text: string) => JSON.stringify(text)
  return `# Written by kaos at every start.
server_name: ${quote(name)}
listen: ${quote(`${host}:${port}`)}
log_file: ${quote(logFile)}
logfile_size_limit: 10MB
logfile_max_num: 2
jetstream {
  store_dir: ${quote(storeDir)}
  max_file_store: 16TB
}
${more ?? ''}
`
}
