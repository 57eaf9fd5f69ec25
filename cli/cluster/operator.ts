/** `kaos operator`: keeps a cluster as its resources declare, until it is told to end or has lost the lease. */
import { type BrokerSettings, brokerSettings } from '../../bus/access/settings.ts'
import type { Replicas } from '../../bus/streams.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Installation } from '../../operator/desired/installation.ts'
import { findCluster } from '../../operator/kube/access.ts'
import { type Pages, serveOperatorHealth } from '../../operator/process/health-server.ts'
import { INSTALLATION_FILE, readInstallationFile } from '../../operator/process/installation-file.ts'
import { LEASE_NAME, Operator } from '../../operator/process/operator.ts'
import { createLog } from '../../telemetry/log.ts'
import { startTelemetry } from '../../telemetry/start.ts'
import { everyAddress, type ListenAddress } from '../process/address.ts'
import { EXIT } from '../process/exit-codes.ts'
import { interrupted } from '../process/interrupt.ts'
import { Stopping } from '../process/stopping.ts'
import { FLUSH_MS } from '../process/telemetry.ts'
import { print, printJson } from '../view/terminal.ts'

/** Where an operator serves in a pod, where kubelet and Prometheus come from outside. */
const POD_PORT = 8_081

/** What does not end within this is left. */
const STOP_MS = 9_000

export async function operatorCommand(options: {
  readonly config?: string
  readonly namespace?: readonly string[]
  readonly health?: ListenAddress | 'off'
  readonly metrics?: ListenAddress | 'off'
  readonly lease?: string
  readonly streamReplicas?: Replicas
  readonly leaderElect?: 'true' | 'false'
  readonly json?: boolean
}): Promise<number> {
  const { env } = process
  const installation = readInstallationFile(options.config ?? INSTALLATION_FILE)
  const broker = brokerOf(installation, env)
  const cluster = await findCluster({ env })
  const log = await createLog()
  const stopping = new Stopping(log)
  let exitCode: number = EXIT.failed
  try {
    const told = interrupted()
    const telemetry = await startTelemetry({ processName: 'kaos-operator', services: [], env, log })
    stopping.add(() => telemetry.stop(FLUSH_MS))
    const operator = await Operator.start({
      installation,
      cluster,
      broker,
      streamReplicas: options.streamReplicas ?? 1,
      namespaces: options.namespace,
      lease: options.leaderElect === 'false' ? undefined : { name: options.lease ?? LEASE_NAME },
      log,
    })
    stopping.add(() => operator.stop())
    const serve = async (address: ListenAddress | 'off', pages: Pages) => {
      if (address === 'off') return undefined
      const server = await serveOperatorHealth(address, operator.health, pages)
      stopping.add(() => server.stop())
      return server.url
    }
    const { metrics: ofMetrics = 'off' } = options
    const ofHealth = options.health ?? (env.KUBERNETES_SERVICE_HOST ? { host: everyAddress(), port: POD_PORT } : 'off')
    const health = await serve(ofHealth, ofMetrics === 'off' ? 'all' : 'health')
    const metrics = await serve(ofMetrics, 'metrics')
    const places = { cluster: cluster.source, broker: broker.servers.join(','), health, metrics }
    if (options.json) printJson({ ready: true, ...places })
    else for (const [what, place] of Object.entries(places)) if (place) print(`${what.padEnd(8)}${place}`)
    await Promise.race([told, operator.failed])
    exitCode = EXIT.ok
    return exitCode
  } finally {
    const late = setTimeout(() => process.exit(exitCode), STOP_MS)
    await stopping.all()
    clearTimeout(late)
  }
}

/** As the variables and contexts of the nats command say, else as the installation says that pods reach it. */
function brokerOf({ broker }: Installation, env: NodeJS.ProcessEnv): BrokerSettings {
  const settings = brokerSettings(env) ?? brokerSettings({ ...env, NATS_URL: broker.url })
  if (settings) return settings
  throw new KaosError('bad_setting', 'could not find a broker: neither NATS_URL nor broker.url of the configuration is set')
}
