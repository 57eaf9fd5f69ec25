/** Runs once before all tests: gets the nats-server, so that no test waits for a download or a build and two do not fetch it at once. */
import { findServer } from '../../bus/server/binary/find.ts'

// biome-ignore lint/style/noDefaultExport: vitest calls the default export of its global setup
export default async function setup(): Promise<void> {
  await findServer({ env: process.env, say: (line) => void process.stderr.write(`${line}\n`) })
}
