package tpm

// OpenBackup returns the key in a backup.
var OpenBackup = openBackup
