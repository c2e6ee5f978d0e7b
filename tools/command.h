/* The commands of quotemill, a file each. Every one parses its own arguments (argv[0] is the command's name) and gives the
 * exit code of the program. */
#ifndef QM_COMMAND_H
#define QM_COMMAND_H

int qm_cmd_init(int argc, char **argv);
int qm_cmd_enroll(int argc, char **argv);
int qm_cmd_verify(int argc, char **argv);
int qm_cmd_doctor(int argc, char **argv);
int qm_cmd_backup(int argc, char **argv);
int qm_cmd_restore(int argc, char **argv);
int qm_cmd_status(int argc, char **argv);
int qm_cmd_alerts(int argc, char **argv);
int qm_cmd_config(int argc, char **argv);
int qm_cmd_baseline(int argc, char **argv);
int qm_cmd_hold(int argc, char **argv);
int qm_cmd_retire(int argc, char **argv);
int qm_cmd_beacon(int argc, char **argv);
int qm_cmd_spool(int argc, char **argv);
int qm_cmd_log(int argc, char **argv);
int qm_cmd_gen(int argc, char **argv);
int qm_cmd_run(int argc, char **argv);
int qm_cmd_apply(int argc, char **argv);
int qm_cmd_cpu(int argc, char **argv);

#endif
