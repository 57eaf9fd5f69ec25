// Command testplane holds the parts of a Kubernetes control plane in one binary, because they share most of their code:
// testplane etcd|kube-apiserver|kube-controller-manager|kube-scheduler FLAGS. build.ts builds it, plane.ts runs it.
package main

import (
	"fmt"
	"os"
	_ "time/tzdata"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// controllers.go adds to it under its build tag.
var parts = map[string]func() *cobra.Command{"kube-apiserver": apiserver.NewAPIServerCommand}

func main() {
	if len(os.Args) < 2 {
		exitWithUsage()
	}
	// Each part reads its own flags from os.Args, as if it were the only command.
	os.Args = os.Args[1:]
	name := os.Args[0]
	if name == "etcd" {
		etcdmain.Main(os.Args)
		return
	}
	newCommand, ok := parts[name]
	if !ok {
		exitWithUsage()
	}
	os.Exit(cli.Run(newCommand()))
}

func exitWithUsage() {
	fmt.Fprintln(os.Stderr, "usage: testplane etcd|kube-apiserver|kube-controller-manager|kube-scheduler [flags]")
	os.Exit(2)
}
