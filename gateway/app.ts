/** The routes of the HTTP door. What a request does is in the file of its name; what is refused before that is refused here. */
import type { HttpBindings } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { KaosError } from '../bus/wire/errors.ts'
import type { Logger } from '../telemetry/log.ts'
import { Agents, type DoorAgent } from './agents.ts'
import { agentCard } from './card.ts'
import { type Answer, Chat } from './chat/chat.ts'
import { EventStream } from './chat/event-stream.ts'
import { readChatRequest } from './chat/request.ts'
import { Room } from './chat/room.ts'
import type { Door } from './door.ts'
import { HTTP_LIMITS } from './limits.ts'
import { badRequest, HttpProblem, type Told, tell } from './problem.ts'

export interface Readiness {
  readonly ready: boolean
}

export interface GatewayOptions {
  readonly log: Logger
  /** Of this program, for agent cards. */
  readonly version: string
  /** What `/ready` says; asks nobody. */
  readonly readiness: () => Readiness
  /** Listens on the loopback: only names of it are answered, so that no page of another site gets here by a name that it owns. */
  readonly isLoopback: boolean
  /** Default `HTTP_LIMITS.waitMs`. */
  readonly waitMs?: number | undefined
  /** Default `HTTP_LIMITS.requestsMax`. */
  readonly requestsMax?: number | undefined
  /** Default `HTTP_LIMITS.takeMs`. */
  readonly takeMs?: number | undefined
  /** Default `HTTP_LIMITS.largeBodiesBytesMax`. */
  readonly largeBodiesBytesMax?: number | undefined
}

/** What stands behind the door once there is a bus. */
export interface Behind {
  readonly door: Door
  readonly agents: readonly DoorAgent[]
}

type Env = { Bindings: HttpBindings }

export class Gateway {
  readonly app = new Hono<Env>()
  private readonly options: GatewayOptions
  private readonly shutting = new AbortController()
  private readonly underWay = new Set<Promise<void>>()
  private readonly room: Room
  private behind: { readonly chat: Chat; readonly door: Door; readonly agents: Agents } | undefined
  private isDraining = false

  constructor(options: GatewayOptions) {
    this.options = options
    this.room = new Room(options.largeBodiesBytesMax)
    const { app } = this
    app.use(async (c, next) => {
      this.checkHost(c)
      await next()
      // Whoever keeps this connection would ask here again, and never reach a process that takes requests.
      if (this.isDraining) c.env.outgoing.setHeader('connection', 'close')
    })
    route(app, 'GET', ['/health'], (c) => this.health(c))
    route(app, 'GET', ['/ready'], (c) => this.ready(c))
    route(app, 'POST', ['/v1/chat/completions', '/:agent/v1/chat/completions'], (c) => this.chat(c))
    route(app, 'GET', ['/v1/models', '/:agent/v1/models'], (c) => this.models(c))
    route(app, 'GET', ['/v1/models/:model', '/:agent/v1/models/:model'], (c) => this.model(c))
    for (const file of ['agent-card.json', 'agent.json', 'agent'])
      route(app, 'GET', [`/.well-known/${file}`, `/:agent/.well-known/${file}`], (c) => this.card(c))
    app.notFound((c) =>
      answerTold(c, tell(new HttpProblem(404, 'not_found', `there is no ${c.req.method} ${shownPath(c)} here; ${ROUTES}`))),
    )
    app.onError((error, c) => {
      const told = tell(error)
      if (told.status === 500) options.log.error({ err: error, path: shownPath(c) }, 'an HTTP request could not be answered')
      return answerTold(c, told)
    })
  }

  /** From now on requests are taken. */
  open({ door, agents }: Behind): void {
    this.behind = { chat: new Chat(door, this.options.log), door, agents: new Agents(agents) }
  }

  /** Takes no new chat request; those that wait go on waiting. */
  drain(): void {
    this.isDraining = true
  }

  /** Answers all that wait, with their result if it is there, within `shutMs`. */
  async shut(): Promise<void> {
    this.drain()
    this.shutting.abort()
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(late.resolve, HTTP_LIMITS.shutMs)
    await Promise.race([Promise.all(this.underWay), late.promise])
    clearTimeout(timer)
  }

  private health(c: Context<Env>): Response {
    return c.json({ alive: true, status: 'healthy', ...this.nameAndTime() }, 200, NO_STORE)
  }

  private ready(c: Context<Env>): Response {
    const now = this.options.readiness()
    const said = { ...now, status: now.ready ? 'ready' : 'not ready', ...this.nameAndTime() }
    return c.json(said, now.ready ? 200 : 503, NO_STORE)
  }

  /** As KAOS says it; the name where there is one agent. */
  private nameAndTime() {
    const [first, second] = this.behind?.agents.all ?? []
    return { ...(first && !second && { name: first.name }), timestamp: Date.now() / 1_000 }
  }

  private async chat(c: Context<Env>): Promise<Response> {
    const { waitMs = HTTP_LIMITS.waitMs, requestsMax = HTTP_LIMITS.requestsMax, takeMs = HTTP_LIMITS.takeMs } = this.options
    const deadline = performance.now() + waitMs
    const { chat, agents } = this.opened()
    if (this.isDraining) throw new KaosError('not_ready', 'this process is about to end and takes no new request')
    if (this.underWay.size >= requestsMax) throw new KaosError('queue_full', `${requestsMax} requests are waiting already`)
    const finished = Promise.withResolvers<void>()
    this.underWay.add(finished.promise)
    const place = this.room.enter()
    const { incoming, outgoing } = c.env
    outgoing.once('close', () => {
      this.underWay.delete(finished.promise)
      finished.resolve()
    })
    const path = c.req.param('agent')
    const named = path === undefined ? undefined : agents.named(path)
    try {
      const request = await readChatRequest(incoming, (name) => c.req.header(name), place)
      const agent = named ?? agents.asked(request.model)
      const gone = c.req.raw.signal
      const answer = await chat.answer({ agent, request, place, deadline, gone, shutting: this.shutting.signal })
      outgoing.setTimeout(takeMs, () => outgoing.destroy())
      return respond(answer)
    } catch (error) {
      place.leave()
      throw error
    }
  }

  private models(c: Context<Env>): Response {
    const { agents } = this.opened()
    const name = c.req.param('agent')
    return c.json({ object: 'list', data: (name === undefined ? agents.all : [agents.named(name)]).map(modelOf) })
  }

  private model(c: Context<Env>): Response {
    return c.json(modelOf(this.opened().agents.named(c.req.param('model')!)))
  }

  private async card(c: Context<Env>): Promise<Response> {
    const { agents, door } = this.opened()
    const name = c.req.param('agent')
    const agent = name === undefined ? onlyAgent(agents) : agents.named(name)
    const tools = await inTime(Promise.all(agent.toolServers.map((server) => door.toolsOf(server).catch(() => undefined))))
    const peers = agent.peers.map((peer) => agents.all.find((known) => known.name === peer) ?? { name: peer, description: '' })
    const url = `${new URL(c.req.url).origin}${name === undefined ? '' : `/${name}`}`
    const card = agentCard(agent, {
      url,
      version: this.options.version,
      tools: (tools ?? []).filter((list) => list !== undefined),
      peers,
    })
    return c.json(card, 200, NO_STORE)
  }

  private opened() {
    if (this.behind) return this.behind
    throw new KaosError('not_ready', 'this process still starts')
  }

  private checkHost(c: Context<Env>): void {
    if (!this.options.isLoopback) return
    const { hostname } = new URL(c.req.url)
    if (hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)) return
    throw new HttpProblem(403, 'forbidden_host', 'this address answers to the name localhost and its numbers alone')
  }
}

const NO_STORE = { 'cache-control': 'no-store' } as const
const ROUTES = 'there are /v1/chat/completions, /v1/models, /.well-known/agent-card.json, /health and /ready'

/** Any other method is told which one there is. */
function route(
  app: Hono<Env>,
  method: 'GET' | 'POST',
  paths: readonly string[],
  answer: (c: Context<Env>) => Response | Promise<Response>,
): void {
  for (const path of paths) {
    app.on(method, path, answer)
    app.all(path, () => {
      const allow = method === 'GET' ? 'GET, HEAD' : method
      throw new HttpProblem(405, 'method_not_allowed', `only ${allow}`, { headers: { allow } })
    })
  }
}

function answerTold(c: Context<Env>, { status, headers, body }: Told): Response {
  return c.body(JSON.stringify(body), status as 400, { ...headers, 'content-type': 'application/json' })
}

function respond({ status, headers, body }: Answer): Response {
  if (body instanceof EventStream) {
    const stream = { ...headers, 'content-type': 'text/event-stream; charset=utf-8', ...NO_STORE, 'x-accel-buffering': 'no' }
    return new Response(body.body, { status, headers: stream })
  }
  return new Response(JSON.stringify(body), { status, headers: { ...headers, 'content-type': 'application/json', ...NO_STORE } })
}

function modelOf({ name }: DoorAgent) {
  return { id: name, object: 'model', created: 0, owned_by: 'kaos' }
}

function onlyAgent({ all }: Agents): DoorAgent {
  const [first, second] = all
  if (first && !second) return first
  throw badRequest('there are several agents here: put the name of one before the path')
}

async function inTime<T>(promise: Promise<T>): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => resolve(undefined), HTTP_LIMITS.cardMs)
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

function shownPath(c: Context<Env>): string {
  return c.req.path.slice(0, HTTP_LIMITS.nameCharsMax)
}
