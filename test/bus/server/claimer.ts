/**
 * A process that claims a folder: `node claimer.ts FOLDER [NAMESPACE]`. It says "claimed", or the code of the error and what it said; after a
 * claim it lives until it is killed. Without a namespace it does not publish, as a `kaos up` that is still starting.
 */
import { claimFolder } from '../../../bus/server/run-file.ts'
import { KaosError } from '../../../bus/wire/errors.ts'

const [folder, namespace] = process.argv.slice(2)
if (!folder) throw new Error('usage: claimer.ts FOLDER [NAMESPACE]')
try {
  const claim = await claimFolder(folder)
  if (namespace) claim.publish({ url: 'nats://127.0.0.1:4222', namespace, manifests: ['team.yaml'] })
  setInterval(() => {}, 60_000)
  console.log('claimed')
} catch (error) {
  if (!(error instanceof KaosError)) throw error
  console.log(`${error.code} ${error.message}`)
}
