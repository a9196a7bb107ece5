package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/keyring"
)

const (
	// pollInterval is how often the configuration file is looked at. Reading a small file is cheaper than watching its
	// directory, and sees what a mount shows.
	pollInterval = 2 * time.Second
	// reloadTime bounds the attempt to take a new configuration, in which every key is probed.
	reloadTime = 30 * time.Second
)

// configFile is a configuration with the hash of its bytes.
type configFile struct {
	config *config.Daemon
	hash   string
}

func readConfig(path string) (configFile, error) {
	// The hash first: if the file changes in between, it is that of the older content, and the change is noticed.
	hash, hashErr := hashFile(path)
	c, err := config.Load(path) // it says best why a file cannot be read
	return configFile{c, hash}, cmp.Or(err, hashErr)
}

func hashFile(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(data)), nil
}

// watchConfig takes a new configuration when the file has changed, and any on SIGHUP, until ctx ends.
func (d *daemon) watchConfig(ctx context.Context) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	seen, tried := d.hash, d.hash
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.hangup:
			tried, _ = hashFile(d.ConfigPath)
			d.reload(ctx)
		case <-poll.C:
			now, err := hashFile(d.ConfigPath)
			if err != nil {
				continue // being replaced, or gone: what is in use stays
			}
			if now == seen && now != tried { // the same twice: nobody is in the middle of writing it
				tried = now
				d.reload(ctx)
			}
			seen = now
		}
	}
}

// reload takes the configuration file as it is now, or logs once why not.
func (d *daemon) reload(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	hash, err := d.take(ctx)
	d.metrics.reloaded(hash, err)
	d.audit.reloaded(hash, err)
	if err != nil {
		d.log.Error("refusing the configuration on disk, the one in use stays", "file", d.ConfigPath, "error", err,
			"hint", joinHints(Hint(err), "then save it again or send SIGHUP"))
		return
	}
	d.log.Info("configuration taken", "file", d.ConfigPath, "hash", hash)
}

// take puts the configuration on disk in the place of the one in use, with newly opened keys and newly read
// credentials. If it fails nothing has changed.
func (d *daemon) take(ctx context.Context) (hash string, err error) {
	file, err := readConfig(d.ConfigPath)
	if err != nil {
		return "", err
	}
	keys, err := keyring.OpenEnough(ctx, file.config, d.log, d.surround)
	if err != nil {
		return "", fmt.Errorf("opening its keys: %w", err)
	}
	next, err := d.setup(ctx, file.config, keys)
	if err == nil {
		err = d.plugin.Replace(ctx, next)
	}
	if err != nil {
		keys.Close()
		return "", err
	}
	if err := d.keys.Close(); err != nil {
		d.log.Warn("closing the keys of the configuration before", "error", err)
	}
	d.warnOfRestart(file.config)
	d.level.Set(levelOf(file.config.Observe))
	d.config, d.hash, d.keys = file.config, file.hash, keys
	return file.hash, nil
}

// warnOfRestart tells of changes that take a restart, because they are about sockets and files that stay open.
func (d *daemon) warnOfRestart(next *config.Daemon) {
	is, will := d.config.Observe, next.Observe
	is.Level, will.Level = "", ""
	if !reflect.DeepEqual(d.config.Socket, next.Socket) || d.config.DisableV1beta1 != next.DisableV1beta1 || is != will || d.config.AuditLog != next.AuditLog {
		d.log.Warn("changes of socket, disableV1beta1, auditLog and observe, but for observe.level, take effect at the next start")
	}
}
