// Command controlplane is etcd, etcdctl, etcdutl, the three programs of a Kubernetes control plane, kubelet and kubectl in one binary. It runs
// the one whose name it was called by (a symbolic link), or the one its first argument names.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build information as a metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func(args []string){
	"etcd":                    etcdmain.Main,
	"etcdctl":                 runEtcdctl,
	"etcdutl":                 command(restores),
	"kube-apiserver":          command(apiserver.NewAPIServerCommand),
	"kube-controller-manager": command(controllers.NewControllerManagerCommand),
	"kube-scheduler":          command(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubectl":                 runKubectl,
	"kubelet":                 command(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
}

func command(build func() *cobra.Command) func([]string) {
	return func(args []string) {
		cmd := build()
		cmd.SetArgs(args[1:])
		os.Exit(cli.Run(cmd))
	}
}

// restores is the part of etcdutl that checks and restores a snapshot.
func restores() *cobra.Command {
	cmd := &cobra.Command{Use: "etcdutl"}
	cmd.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "set the output format")
	cmd.AddCommand(etcdutl.NewSnapshotCommand())
	return cmd
}

// runEtcdctl reads os.Args itself.
func runEtcdctl(args []string) {
	os.Args = args
	ctlv3.MustStart()
}

// runKubectl reads os.Args itself, also for plugins.
func runKubectl(args []string) {
	os.Args = args
	util.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))
}

func main() {
	args := os.Args
	run, known := programs[filepath.Base(args[0])]
	if !known && len(args) > 1 {
		args = args[1:]
		run, known = programs[args[0]]
	}
	if !known {
		fmt.Fprintln(os.Stderr, "usage: etcd|etcdctl|etcdutl|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl|kubelet ARGS...")
		os.Exit(64)
	}
	run(args)
}
