// Runs in a process before its program: writes at its end which modules it had loaded and which ports it had dialled, into the file that
// KAOS_TEST_RECORD names.
import { subscribe } from 'node:diagnostics_channel'
import { writeFileSync } from 'node:fs'
import { registerHooks } from 'node:module'

const modules = []
const ports = []

registerHooks({
  load(url, context, next) {
    modules.push(url)
    return next(url, context)
  },
})
subscribe('net.client.socket', ({ socket }) => {
  socket.on('connectionAttempt', (_ip, port) => ports.push(port))
})
process.on('exit', () => writeFileSync(process.env.KAOS_TEST_RECORD, JSON.stringify({ modules, ports })))
