package nodelock

import (
	"regexp"
	"strings"
)

// Step is what is left to be done by hand.
type Step struct {
	What     string `json:"what"`
	Commands string `json:"commands,omitempty"` // lines of shell, with what only people know in capitals
}

// steps returns what locking this node does not do.
func (n *node) steps() []Step {
	again := "sudo trousseau lockdown --config " + quote(n.Config)
	if n.config == nil || n.Socket != n.config.Socket.Path {
		again += " --socket " + quote(n.Socket)
	}
	if n.Reason != "" {
		again += " --reason " + quote(n.Reason)
	}
	steps := []Step{
		{"Lock every other control plane node: each has a daemon of its own, which goes on answering. This tool does not know their names.",
			"for node in NODE2 NODE3; do ssh \"$node\" " + quote(again) + "; done"},
		{"End every kube-apiserver: it keeps what it has opened until it ends. One that starts while its node is locked reads no Secret, " +
			"and is not ready. Do it on each control plane node, the way that fits:",
			`# kubeadm, or any static pod; the kubelet starts it again
sudo crictl rm --force $(sudo crictl ps --quiet --name kube-apiserver)
# RKE2
sudo env CRI_CONFIG_FILE=/var/lib/rancher/rke2/agent/etc/crictl.yaml sh -c 'c=/var/lib/rancher/rke2/bin/crictl; $c rm --force $($c ps --quiet --name kube-apiserver)'
# k3s
sudo systemctl restart k3s
# a systemd unit
sudo systemctl restart kube-apiserver`},
	}
	if n.config == nil {
		return append(steps, Step{What: "Stop each key in its key service. The configuration cannot be read, so this tool does not know which they are."})
	}
	for _, k := range n.config.Keys {
		steps = append(steps, Step{"If the daemon's credentials or the key itself may be in other hands, stop the key " + k.Name + " (" + k.ID + ") in its key service. " +
			"Nothing opens with it until that is undone, here and in every other cluster that uses it:", strings.TrimSuffix(k.ShutOff(), "\n")})
	}
	return steps
}

// plain is what a shell takes as it is.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// quote returns text as one word of a shell.
func quote(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
