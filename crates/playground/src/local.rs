//! The system in the background, found and stopped by the records in `.local/run`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    pin::pin,
};

use futures::future::join_all;
use sandbox::{Console, ProcessRecord, port, step};

use crate::{
    Error, Ports,
    admin::readiness,
    deployment::{
        ACME, Deployment, GLOBEX, KAFKA_PORT, Location, OPERATOR_TOKEN, OPS_PORT, SERVICES,
        THIRD_PARTY_PORT, programs,
    },
    failure::{Failure, StepContext},
    instance::GRACE,
    ops::OPS,
    programs_folder,
    report::{heading, line},
    third_party::THIRD_PARTY,
};

const POSTGRES: &str = "Postgres";
const KAFKA: &str = "Kafka";
const POSTGRES_PORT: u16 = 5432;

/// The local system, identified by the folder of its data, logs and records.
pub(crate) struct Local {
    folder: PathBuf,
}

impl Local {
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        let folder = std::path::absolute(folder);
        Ok(Self { folder: folder.map_err(Error::io("find the folder")).during("begin")? })
    }

    /// Starts it, unless it is running. Returns the exit status.
    pub(crate) async fn start(
        &self,
        console: &Console,
        stop: impl Future<Output = u8>,
    ) -> Result<u8, Failure> {
        let _lock = self.lock().during("start the system")?;
        let records = self.records().during("find the running processes")?;
        let missing = missing(&records);
        if missing.is_empty() {
            heading("Orderflow is already running");
            self.describe(&records).await;
            self.mention_newer_programs();
            return Ok(0);
        }
        if records.iter().any(ProcessRecord::is_alive) {
            line(&format!(
                "Orderflow is running without {}: stopping the rest first",
                missing.join(", ")
            ));
            for record in records.iter().filter(|record| !record.is_alive()) {
                line(&format!(
                    "  {} has ended unexpectedly; its log is {}",
                    record.name,
                    self.log(record)
                ));
            }
        }
        self.take_down(&records, console).await.during("stop the remains of the last run")?;

        let mut stop = pin!(stop);
        let up = async {
            let postgres_port = choose_ports(console)?;
            let location = Location::Local { folder: self.folder.clone(), postgres_port };
            Deployment::start(location, &[], console).await
        };
        let deployment = tokio::select! {
            started = up => started.during("start the system")?,
            signal = &mut stop => {
                line("\nStopped during the start. Nothing is left running.");
                return Ok(128 + signal);
            }
        };
        let records = deployment.detach().await.during("leave the system running")?;
        if let Err(error) = records.iter().try_for_each(|record| self.write(record)) {
            let _ = self.take_down(&records, console).await;
            return Err(error).during("record the running processes");
        }
        heading("Orderflow runs");
        self.describe(&records).await;
        Ok(0)
    }

    /// Stops the running processes: the services, then Kafka, then Postgres.
    pub(crate) async fn stop(&self, console: &Console) -> Result<u8, Failure> {
        if !self.folder.exists() {
            line("The system is not running.");
            return Ok(0);
        }
        let _lock = self.lock().during("stop the system")?;
        let records = self.records().during("find the running processes")?;
        let data = records.iter().filter_map(|record| record.folder.clone());
        let data: Vec<_> = data.map(|folder| folder.display().to_string()).collect();
        let ran = records.iter().any(ProcessRecord::is_alive);
        for record in records.iter().filter(|record| !record.is_alive()) {
            line(&format!(
                "{} had ended unexpectedly; its log is {}",
                record.name,
                self.log(record)
            ));
        }
        self.take_down(&records, console).await.during("stop the system")?;
        line(&if ran {
            format!("Stopped. Data stays in {}.", data.join(" and "))
        } else {
            "The system is not running.".into()
        });
        Ok(0)
    }

    /// Lists the running processes. Returns 0 if all are running.
    pub(crate) async fn status(&self) -> Result<u8, Failure> {
        let records = self.records().during("find the running processes")?;
        if !records.iter().any(ProcessRecord::is_alive) {
            line("The system is not running. To start it: make local");
            return Ok(1);
        }
        heading("Orderflow");
        self.describe(&records).await;
        Ok(u8::from(!missing(&records).is_empty()))
    }

    fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    fn log(&self, record: &ProcessRecord) -> String {
        self.folder.join("log").join(format!("{}.log", file_name(record))).display().to_string()
    }

    /// Locks the folder while processes are started or stopped in it.
    fn lock(&self) -> Result<Locked, Error> {
        let path = self.run().join(".lock");
        let open = || {
            fs::create_dir_all(self.run())?;
            File::create(&path)
        };
        let lock = open().map_err(Error::io(format!("write {}", path.display())))?;
        lock.try_lock().map_err(|_| Error::Busy(self.folder.clone()))?;
        Ok(Locked(lock))
    }

    /// Returns the records of processes that were left running, in the order in which to stop them.
    fn records(&self) -> Result<Vec<ProcessRecord>, Error> {
        let folder = self.run();
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for entry in entries.flatten().filter(|entry| entry.file_name() != ".lock") {
            let path = entry.path();
            let text =
                fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
            // A record that can't be parsed must not prevent the others from being stopped.
            records.extend(text.parse::<ProcessRecord>());
        }
        records.sort_by_key(|record| match record.name.as_str() {
            THIRD_PARTY => SERVICES.len(),
            KAFKA => SERVICES.len() + 1,
            POSTGRES => SERVICES.len() + 2,
            name => SERVICES.iter().position(|service| service.name == name).unwrap_or_default(),
        });
        Ok(records)
    }

    fn write(&self, record: &ProcessRecord) -> Result<(), Error> {
        let path = self.run().join(file_name(record));
        fs::write(&path, format!("{record}\n"))
            .map_err(Error::io(format!("write {}", path.display())))
    }

    /// Stops the processes of the records, the services concurrently and then the servers, and
    /// removes the records.
    async fn take_down(&self, records: &[ProcessRecord], console: &Console) -> Result<(), Error> {
        let is_server = |record: &&ProcessRecord| record.name == KAFKA || record.name == POSTGRES;
        let (servers, services): (Vec<_>, Vec<_>) = records.iter().partition(is_server);
        let stopped = join_all(services.into_iter().map(|record| self.end(record, console))).await;
        stopped.into_iter().collect::<Result<(), Error>>()?;
        for record in servers {
            self.end(record, console).await?;
        }
        Ok(())
    }

    async fn end(&self, record: &ProcessRecord, console: &Console) -> Result<(), Error> {
        let name = &record.name;
        if record.is_alive() {
            let stopped = async {
                if record.stop(GRACE).await { Ok(()) } else { Err(Error::StillRuns(name.clone())) }
            };
            step(console, &format!("stopping {name}"), stopped, |()| format!("{name} stopped"))
                .await?;
        }
        let _ = fs::remove_file(self.run().join(file_name(record)));
        Ok(())
    }

    /// Prints the addresses and the state of each part.
    async fn describe(&self, records: &[ProcessRecord]) {
        let row =
            |name: &str, state: &str, text: &str| line(&format!("  {name:<12} {state:<10} {text}"));
        let find = |name: &str| records.iter().find(|it| it.name == name && it.is_alive());
        for service in &SERVICES {
            let state = match find(service.name) {
                Some(_) => readiness(service.ports.admin).await.to_string(),
                None => "ended".into(),
            };
            let Ports { http, admin } = service.ports;
            let addresses = format!("http://127.0.0.1:{http}   admin http://127.0.0.1:{admin}");
            row(service.name, &state, &addresses);
        }
        let state = |found: Option<_>| if found.is_some() { "runs" } else { "ended" };
        let url = format!("http://127.0.0.1:{OPS_PORT}   lag, alerts: /metrics");
        row(OPS, state(find(OPS)), &url);
        let url = format!("http://127.0.0.1:{THIRD_PARTY_PORT}");
        row(THIRD_PARTY, state(find(THIRD_PARTY)), &url);
        row(KAFKA, state(find(KAFKA)), &format!("127.0.0.1:{KAFKA_PORT}"));
        let postgres = find(POSTGRES);
        let port = postgres.and_then(|record| record.port).unwrap_or(POSTGRES_PORT);
        let url = format!("postgres://postgres@127.0.0.1:{port}/<name of a service>");
        row(POSTGRES, state(postgres), &url);
        line("");
        let keys = [ACME, GLOBEX].map(|tenant| format!("{} for {}", tenant.key, tenant.name));
        line(&format!("  API keys   {}; operator's token {OPERATOR_TOKEN}", keys.join(", ")));
        for (name, record) in [("Kafka's", find(KAFKA)), ("Postgres'", postgres)] {
            if let Some(folder) = record.and_then(|record| record.folder.as_deref()) {
                line(&format!("  data       {name}: {}", folder.display()));
            }
        }
        line(&format!("  logs       {}", self.folder.join("log").display()));
        line("  stop       make local-stop");
    }

    /// Prints the services whose programs are newer than their processes, because a start does not
    /// replace running ones.
    fn mention_newer_programs(&self) {
        let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        let programs = programs_folder().and_then(|folder| programs(&folder)).unwrap_or_default();
        for (service, program) in SERVICES.iter().zip(programs) {
            if changed(&program) > changed(&self.run().join(service.name)) {
                let name = service.name;
                line(&format!(
                    "\n  {name} was rebuilt since its start; to run the new version: make local-stop local"
                ));
            }
        }
    }
}

fn file_name(record: &ProcessRecord) -> String {
    record.name.to_lowercase()
}

/// Returns the names of the processes that are missing.
fn missing(records: &[ProcessRecord]) -> Vec<&'static str> {
    let parts =
        SERVICES.iter().map(|service| service.name).chain([OPS, THIRD_PARTY, KAFKA, POSTGRES]);
    let runs = |name: &str| records.iter().any(|record| record.name == name && record.is_alive());
    parts.filter(|name| !runs(name)).collect()
}

/// Checks the fixed ports, and returns the one for Postgres.
fn choose_ports(console: &Console) -> Result<u16, Error> {
    let services = SERVICES.iter().flat_map(|service| [service.ports.http, service.ports.admin]);
    let checked = services.chain([OPS_PORT, THIRD_PARTY_PORT, KAFKA_PORT]).map(port::check);
    let taken: Vec<_> = checked.filter_map(Result::err).collect();
    if !taken.is_empty() {
        return Err(Error::PortsTaken(taken));
    }
    let mut ports = POSTGRES_PORT..POSTGRES_PORT + 100;
    let free = ports.find(|port| port::check(*port).is_ok()).unwrap_or(POSTGRES_PORT);
    if free != POSTGRES_PORT
        && let Err(taken) = port::check(POSTGRES_PORT)
    {
        console.line(&format!("  {taken}; using {free} for Postgres instead"));
    }
    Ok(free)
}

/// A locked folder. Dropping it unlocks, even while a child that was just forked still has a copy
/// of the file.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // If unlocking fails, the lock ends with the last copy.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_listed_in_the_order_in_which_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::new(folder.path()).unwrap();
        assert!(local.records().unwrap().is_empty(), "before the first start");
        drop(local.lock().unwrap());
        for name in [POSTGRES, "order", KAFKA, "billing"] {
            let record: ProcessRecord = format!("{name}\t1\t0\tSIGTERM\t\t").parse().unwrap();
            local.write(&record).unwrap();
        }
        fs::write(local.run().join("notes"), "no record").unwrap();

        let records = local.records().unwrap();
        let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["order", "billing", KAFKA, POSTGRES]);
        // Process 1 was not started at the time 0, so these records do not match a running process.
        let all = SERVICES.iter().map(|service| service.name);
        let all = all.chain([OPS, THIRD_PARTY, KAFKA, POSTGRES]);
        assert_eq!(missing(&records), all.collect::<Vec<_>>());
    }

    #[test]
    fn only_one_at_a_time_starts_or_stops() {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::new(folder.path()).unwrap();
        let held = local.lock().unwrap();
        assert!(matches!(local.lock(), Err(Error::Busy(_))));
        drop(held);
        assert!(local.lock().is_ok());
    }
}
