import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ClusterAccess, type Credentials, findCluster, kubeconfigCluster } from '../../../operator/kube/access.ts'
import { plainKubeconfig } from '../../../operator/kube/login/plain-kubeconfig.ts'

async function folder(files: Readonly<Record<string, string>> = {}) {
  const path = await mkdtemp(join(tmpdir(), 'kaos-access-'))
  onTestFinished(() => rm(path, { recursive: true }))
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text)
  return path
}

const config = (server: string, user: object = { token: 't' }, cluster: object = {}) =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster: { server, ...cluster } }],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'team' } }],
    'current-context': 'x',
  })

async function kubeconfig(text: string) {
  return join(await folder({ config: text }), 'config')
}

describe('access to a cluster', () => {
  it('is what KUBECONFIG names', async () => {
    const path = await kubeconfig(config('https://k8s.example:6443', { token: 'secret' }, { 'tls-server-name': 'k8s' }))

    const cluster = await findCluster({ env: { KUBECONFIG: path, KUBERNETES_SERVICE_HOST: '10.0.0.1' } })

    expect(cluster).toMatchObject({ namespace: 'team', source: `kubeconfig "${path}"` })
    expect(await cluster.load()).toMatchObject({
      server: 'https://k8s.example:6443',
      headers: { authorization: 'Bearer secret' },
      tls: { servername: 'k8s' },
    })
  })

  it('is the ServiceAccount of the pod, whose token is read again', async () => {
    const serviceAccount = await folder({ token: 'first\n', 'ca.crt': 'CA', namespace: 'kaos-system' })
    const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' }

    const cluster = await findCluster({ env, serviceAccount })
    const before = await cluster.load()
    await writeFile(join(serviceAccount, 'token'), 'second')
    const after = await cluster.load()

    expect(cluster.namespace).toBe('kaos-system')
    expect(before).toEqual({ server: 'https://[fd00::1]:6443', headers: { authorization: 'Bearer first' }, tls: { ca: 'CA' } })
    expect(after.headers.authorization).toBe('Bearer second')
  })

  it('is the one of ~/.kube/config where nothing else is said, and refused with the path where there is none', async () => {
    const home = await folder()

    const found = findCluster({ env: {}, home })

    await expect(found).rejects.toMatchObject({ code: 'cluster_settings' })
    await expect(found).rejects.toThrow(join(home, '.kube', 'config'))
  })

  it.each([
    ['https://k8s.example', true],
    ['http://127.0.0.1:8001', true],
    ['http://localhost:8001', true],
    ['http://[::1]:8001', true],
    ['http://k8s.example', false],
    ['http://127.0.0.1.evil.example', false],
    ['ftp://k8s.example', false],
    ['k8s', false],
  ])('over %s is allowed: %s', async (server, isAllowed) => {
    const path = await kubeconfig(config(server))

    const outcome = await kubeconfigCluster(path).then(
      async (cluster) => (await cluster.load()).headers.authorization,
      (error: { code: string }) => error.code,
    )

    expect(outcome).toBe(isAllowed ? 'Bearer t' : 'cluster_settings')
  })

  it('takes a user and a password, and says what a file lacks', async () => {
    const basic = await kubeconfigCluster(await kubeconfig(config('https://x', { username: 'u', password: 'p' })))
    const withoutContext = kubeconfigCluster(
      await kubeconfig(config('https://x').replace('"current-context":"x"', '"current-context":"y"')),
    )

    expect((await basic.load()).headers.authorization).toBe(`Basic ${Buffer.from('u:p').toString('base64')}`)
    await expect(withoutContext).rejects.toThrow('its current context "y" names no cluster')
  })

  it('reads certificates beside the kubeconfig, and again when they have changed', async () => {
    const text = config(
      'https://x',
      { 'client-certificate': 'user.crt', 'client-key-data': Buffer.from('KEY').toString('base64') },
      { 'certificate-authority': 'ca.crt', 'proxy-url': 'http://proxy:3128' },
    )
    const path = await folder({ config: text, 'ca.crt': 'CA', 'user.crt': 'first' })

    const cluster = await kubeconfigCluster(join(path, 'config'))
    const before = await cluster.load()
    await writeFile(join(path, 'user.crt'), 'second')
    const after = await cluster.load()
    await rm(join(path, 'ca.crt'))
    const without = cluster.load()

    expect(before).toEqual({
      server: 'https://x',
      headers: {},
      proxyUrl: 'http://proxy:3128',
      tls: { ca: Buffer.from('CA'), cert: Buffer.from('first'), key: Buffer.from('KEY') },
    })
    expect(after.tls.cert).toEqual(Buffer.from('second'))
    await expect(without).rejects.toMatchObject({ code: 'cluster_settings' })
  })

  it.each([
    ['a program that logs in', { exec: { apiVersion: 'client.authentication.k8s.io/v1', command: 'login' } }, undefined],
    ['an auth provider', { 'auth-provider': { name: 'oidc', config: {} } }, undefined],
    ['a file with a token', { tokenFile: '/token' }, undefined],
    ['somebody else to act for', { token: 't', as: 'other' }, undefined],
    ['a token that is no text', { token: 12345 }, undefined],
    ['a token that stands in it', { token: 't' }, { server: 'https://x', namespace: 'team' }],
    ['a certificate that stands in it', { 'client-certificate-data': '', 'client-key-data': '' }, { server: 'https://x' }],
  ])('is read without client-node only where that is all there is to do: %s', async (_what, user, expected) => {
    const path = await kubeconfig(config('https://x', user))

    const plain = await plainKubeconfig(path)

    if (expected) expect(plain).toMatchObject(expected)
    else expect(plain).toBeUndefined()
  })

  it('is that of several kubeconfigs together', async () => {
    const both = [await kubeconfig(config('https://first')), await kubeconfig(config('https://second'))].join(':')
    const apart = JSON.parse(config('https://x'))
    const withoutUser = await kubeconfig(JSON.stringify({ ...apart, users: [] }))
    const withoutCluster = await kubeconfig(JSON.stringify({ ...apart, clusters: [], contexts: [], 'current-context': '' }))

    const first = kubeconfigCluster(both)
    const merged = await kubeconfigCluster(`${withoutUser}:${withoutCluster}`)

    await expect(first).rejects.toMatchObject({ code: 'cluster_settings' })
    expect((await merged.load()).headers.authorization).toBe('Bearer t')
  })

  it('keeps its connections while the keys are the same, and survives files that cannot be read for a moment', async () => {
    let credentials: Credentials | undefined = { server: 'https://x/prefix/', headers: { authorization: 'a' }, tls: {} }
    const load = async () => {
      if (!credentials) throw new Error('half written')
      return credentials
    }
    const access = new ClusterAccess({ source: 'test', namespace: 'default', load })
    onTestFinished(() => access.close())
    const read = async () => {
      access.forget()
      return await access.get()
    }

    const first = await access.get()
    credentials = { ...credentials, headers: { authorization: 'b' } }
    const cached = await access.get()
    const renewed = await read()
    credentials = { ...credentials, tls: { ca: 'another' } }
    const rekeyed = await read()
    credentials = undefined
    const kept = await read()

    expect(first).toMatchObject({ origin: 'https://x', prefix: '/prefix' })
    expect(cached).toBe(first)
    expect(renewed.headers).toEqual({ authorization: 'b' })
    expect(renewed.dispatcher).toBe(first.dispatcher)
    expect(renewed.watching).toBe(first.watching)
    expect(rekeyed.dispatcher).not.toBe(first.dispatcher)
    expect(rekeyed.watching).not.toBe(first.watching)
    expect(kept).toBe(rekeyed)
  })
})
