/** Runs once before the cluster tests: builds the control plane when it is missing and starts the one that all test files share. */
import type { TestProject } from 'vitest/node'
import { addNodes } from './nodes.ts'
import { type PlaneAddress, startPlane } from './plane.ts'

declare module 'vitest' {
  interface ProvidedContext {
    readonly plane: PlaneAddress
  }
}

// biome-ignore lint/style/noDefaultExport: vitest calls the default export of its global setup
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const plane = await startPlane({ say: (line) => void process.stderr.write(`${line}\n`) })
  await addNodes(plane.api)
  project.provide('plane', plane.address)
  return () => plane.stop()
}
