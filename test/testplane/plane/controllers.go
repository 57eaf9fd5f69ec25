//go:build controllers

// The parts that turn a bare API server into one where Deployments get pods, owners take their children along and tokens are issued.
package main

import (
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/spf13/cobra"
)

func init() {
	parts["kube-controller-manager"] = controllers.NewControllerManagerCommand
	parts["kube-scheduler"] = func() *cobra.Command { return scheduler.NewSchedulerCommand() }
}
