use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use sandbox::{Life, Process};

use crate::{Error, Instance, Ports, environment, instance::InstanceConfig, ports::start_on};

/// Starts instances of services as child processes, all with the same Kafka, folder of programs and
/// folder of logs.
///
/// Of the caller's environment a service inherits only the variables that any program needs
/// (`PATH`, `HOME`, ..). All settings are given here.
#[derive(Clone, Debug)]
pub struct Launcher {
    pub(crate) programs: PathBuf,
    pub(crate) brokers: String,
    pub(crate) logs: PathBuf,
    pub(crate) life: Life,
    /// The URL of each service's own database.
    pub(crate) databases: HashMap<String, String>,
    /// Settings of every service.
    pub(crate) settings: Vec<(String, String)>,
}

/// How to start one instance of a service. By default on free ports, with the service's own
/// database.
#[derive(Clone, Debug)]
pub struct Launch {
    name: String,
    database_url: Option<String>,
    ports: Option<Ports>,
    settings: Vec<(String, String)>,
    first_settings: Vec<(String, String)>,
}

impl Launch {
    /// Starts the program of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            database_url: None,
            ports: None,
            settings: Vec::new(),
            first_settings: Vec::new(),
        }
    }

    /// Uses this database instead of the service's own.
    #[must_use]
    pub fn database_url(mut self, url: impl Into<String>) -> Self {
        self.database_url = Some(url.into());
        self
    }

    /// Listens on these ports instead of free ones.
    #[must_use]
    pub fn ports(mut self, ports: Ports) -> Self {
        self.ports = Some(ports);
        self
    }

    /// Sets an environment variable of the service. Overrides earlier values and the settings of
    /// all services.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Sets an environment variable for the first start only. [`Instance::start_again`] does not
    /// set it.
    #[must_use]
    pub fn first_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.first_settings.push((name.into(), value.into()));
        self
    }
}

impl Launcher {
    /// Starts an instance and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::NoProgram`], and [`Error::Sandbox`] if it ends instead or does not become ready.
    pub async fn start(&self, launch: Launch) -> Result<Instance, Error> {
        let program = self.program(&launch.name)?;
        start_on(launch.ports, async |ports| {
            Instance::start(self.config(&launch, &program, ports)).await
        })
        .await
    }

    /// Returns the folder of the services' logs, `<service>.log` each. Instances of one service
    /// share it.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Returns the path of a program.
    ///
    /// # Errors
    /// [`Error::NoProgram`] if it is not built.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf, Error> {
        program(&self.programs, name)
    }

    /// Starts another program in the same way.
    pub(crate) fn spawn(
        &self,
        name: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Result<Process, Error> {
        let mut command = Command::new(self.program(name)?);
        command.args(arguments);
        environment::scrub(&mut command);
        command.envs(settings.iter().copied());
        Ok(Process::spawn(name, command, &self.log(name), self.life)?)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    fn config(&self, launch: &Launch, program: &Path, ports: Ports) -> InstanceConfig {
        let database_url =
            launch.database_url.as_ref().or_else(|| self.databases.get(&launch.name));
        let mail = self.logs.with_file_name("mail");
        let own = [
            ("DATABASE_URL", database_url.cloned().unwrap_or_default()),
            ("KAFKA_BROKERS", self.brokers.clone()),
            ("HTTP_ADDR", format!("127.0.0.1:{}", ports.http)),
            ("ADMIN_ADDR", format!("127.0.0.1:{}", ports.admin)),
            // E-mails are files beside the logs. Only notification reads this setting.
            ("MAIL_DIR", mail.display().to_string()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value)).into_iter();
        InstanceConfig {
            name: launch.name.clone(),
            program: program.to_owned(),
            settings: own.chain(self.settings.clone()).chain(launch.settings.clone()).collect(),
            first_settings: launch.first_settings.clone(),
            ports,
            log: self.log(&launch.name),
            life: self.life,
        }
    }
}

/// Returns the folder of the running program, which contains the services' programs too.
///
/// # Errors
/// [`Error::Io`] if the system does not provide it.
pub fn programs_folder() -> Result<PathBuf, Error> {
    let own = env::current_exe().map_err(Error::io("find the folder of this program"))?;
    Ok(own.parent().unwrap_or(Path::new(".")).to_owned())
}

pub(crate) fn program(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let program = folder.join(name);
    if program.is_file() {
        Ok(program)
    } else {
        Err(Error::NoProgram { name: name.into(), folder: folder.into() })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        io::{Read, Write},
        net::TcpListener,
        os::unix::{fs::PermissionsExt, process::ExitStatusExt},
        thread,
        time::Duration,
    };

    use sandbox::testing::eventually;

    use super::*;

    /// A service that writes its environment to a file and does nothing else. Its admin port is the
    /// test's.
    const PROGRAM: &str = "#!/bin/sh
trap 'exit 0' TERM
env > $MAIL_DIR.new && mv $MAIL_DIR.new $MAIL_DIR.environment
while true; do sleep 0.05; done
";

    /// Responds on a free port that the service is ready.
    fn ready() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let _ = connection.read(&mut [0; 1024]);
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 18\r\nconnection: close\r\n\r\n\
                              {\"status\":\"ready\"}";
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        port
    }

    fn launcher(folder: &Path) -> Launcher {
        let program = folder.join("billing");
        fs::write(&program, PROGRAM).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        Launcher {
            programs: folder.into(),
            brokers: "127.0.0.1:9".into(),
            logs: folder.join("log"),
            life: Life::WithParent,
            databases: HashMap::from([("billing".into(), "postgres://own".into())]),
            settings: vec![("TENANTS".into(), "all".into()), ("FAULTS".into(), "on".into())],
        }
    }

    #[tokio::test]
    async fn an_instance_has_its_settings_and_those_of_its_first_start_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let ports = Ports { http: 1, admin: ready() };
        let launch = Launch::new("billing").ports(ports).setting("FAULTS", "off");
        let launch = launch.first_setting("SABOTAGE_DIE", "here");
        let mut billing = launcher(folder.path()).start(launch).await.unwrap();
        let environment = async || {
            let path = folder.path().join("mail.environment");
            let read = async || fs::read_to_string(&path).ok();
            let text = eventually("its environment", Duration::from_secs(10), read).await;
            fs::remove_file(&path).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let first = environment().await;
        for line in [
            "DATABASE_URL=postgres://own",
            "KAFKA_BROKERS=127.0.0.1:9",
            "HTTP_ADDR=127.0.0.1:1",
            "TENANTS=all",
            "FAULTS=off",
            "SABOTAGE_DIE=here",
        ] {
            assert!(first.iter().any(|it| it == line), "{line} of {first:?}");
        }
        // Cargo sets it for this process.
        assert!(!first.iter().any(|it| it.starts_with("CARGO_")), "{first:?}");

        assert_eq!(billing.kill_9().await.signal(), Some(9));
        billing.start_again().await.unwrap();
        let second = environment().await;
        assert!(!second.iter().any(|it| it.starts_with("SABOTAGE_DIE")), "{second:?}");
        assert!(second.contains(&"FAULTS=off".to_owned()), "{second:?}");
        assert!(billing.died_within(Duration::from_millis(50)).await.is_none());
        assert!(billing.terminate().await.is_some());
    }

    #[tokio::test]
    async fn a_program_that_is_not_built_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let started = launcher(folder.path()).start(Launch::new("analytics")).await;
        let error = started.expect_err("there is none").to_string();
        assert!(error.contains("no program analytics in"), "{error}");
    }
}
