import { defineConfig } from 'vitest/config'

/** The tests that need a Kubernetes control plane: `npm run test:cluster`. The first run builds it, which takes minutes and needs Go. */
export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/cluster/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts', 'test/testplane/global-setup.ts'],
    pool: 'forks',
    // They share one plane, and some of them restart its parts.
    fileParallelism: false,
    retry: process.env.CI ? 1 : 0,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
})
