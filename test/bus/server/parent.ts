/**
 * A process that owns an embedded server and nothing else: `node parent.ts BINARY STORE`. It says "ready URL PID" and then lives until it is
 * killed; on SIGINT it says "interrupted" and goes on, as a `kaos up` that drains.
 */
import { startServer } from '../../../bus/server/embedded.ts'

const [binary, storeDir] = process.argv.slice(2)
if (!binary || !storeDir) throw new Error('usage: parent.ts BINARY STORE')
process.on('SIGINT', () => console.log('interrupted'))
const server = await startServer({ binary, storeDir, port: 0 })
console.log(`ready ${server.url} ${server.pid}`)
