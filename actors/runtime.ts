/** What a process that hosts agents is given: the agent as it runs here, who the process is, and the bus. */
import type { Bus, Clock } from '../bus/contracts.ts'
import type { Json } from '../bus/wire/json.ts'
import type { TraceBoundary } from '../manifests/kinds/telemetry.ts'
import type { Logger } from '../telemetry/log.ts'
import type { ServiceTelemetry } from '../telemetry/telemetry.ts'
import type { Effect } from './effects/effect.ts'
import type { Machine } from './machine.ts'
import type { CrashPoint } from './turn/crash.ts'

/** An agent as this process runs it. */
export interface AgentRuntime {
  readonly name: string
  readonly machine: Machine
  readonly effects: Readonly<Record<string, Effect>>
  /** What a new task takes with it: the manifest and the tool lists of now. Throws `tool_list_missing` while one is not there. */
  definition(): Promise<Json>
  /** The definition of a task whose tool lists never came: the machine turns it into a typed failure. */
  withoutTools(failure: { readonly code: string; readonly message: string }): Json
  /** Where its spans end, as `spec.telemetry.traceBoundary` says; absent: with the task. */
  readonly traceBoundary?: TraceBoundary
}

/** Who this process is. A host id is new at every start. */
export interface HostIdentity {
  readonly id: string
  /** `<host id>.<append counter>`, never the same twice. */
  nextWriter(): string
}

export interface HostOptions {
  readonly bus: Bus
  readonly agent: AgentRuntime
  readonly identity: HostIdentity
  readonly clock: Clock
  readonly log: Logger
  readonly crash: CrashPoint
  /** Absent: off. */
  readonly telemetry?: ServiceTelemetry
}
