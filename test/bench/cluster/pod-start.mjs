// Runs in the process of a pod before its program does. It writes when Node began, when Node was up, and when the program opened its first
// connection, which `kaos host` does once its modules are loaded and its manifest is read: one line in the log of the pod.
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { writeSync } from 'node:fs'

const CHANNEL = 'net.client.socket'

function onSocket() {
  unsubscribe(CHANNEL, onSocket)
  const { timeOrigin, nodeTiming } = performance
  const start = { started: timeOrigin, nodeUp: timeOrigin + nodeTiming.bootstrapComplete, loaded: timeOrigin + performance.now() }
  writeSync(2, `start of a pod ${JSON.stringify(start)}\n`)
}

subscribe(CHANNEL, onSocket)
