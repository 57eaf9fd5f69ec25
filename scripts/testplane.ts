/**
 * `npm run testplane`: a Kubernetes control plane on this machine until Ctrl-C, with pods that only pretend; prints its KUBECONFIG.
 * `node scripts/testplane.ts build` only builds the binary, which CI does in the background.
 */
import { once } from 'node:events'
import { planeBinary } from '../test/testplane/build.ts'
import { startFakePods } from '../test/testplane/fake-kubelet.ts'
import { kubectlPath } from '../test/testplane/kubectl.ts'
import { addNodes } from '../test/testplane/nodes.ts'
import { startPlane } from '../test/testplane/plane.ts'

const say = (line: string) => console.error(line)

async function run(): Promise<void> {
  const stopping = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort())
  await using plane = await startPlane({ say })
  await addNodes(plane.api)
  await using _pods = startFakePods(plane)
  const { kubeconfig } = plane.address
  const kubectl = await kubectlPath().catch(() => 'kubectl')
  console.log(`export KUBECONFIG=${kubeconfig}`)
  say(`try: ${kubectl} --kubeconfig ${kubeconfig} get nodes`)
  say('pods become ready, but nothing runs in them; Ctrl-C ends it')
  if (!stopping.signal.aborted) await once(stopping.signal, 'abort')
}

try {
  if (process.argv[2] === 'build') console.log(await planeBinary({ say }))
  else await run()
} catch (error) {
  say((error as Error).message)
  process.exitCode = 1
}
