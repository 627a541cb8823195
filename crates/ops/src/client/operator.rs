use serde::Deserialize;
use uuid::Uuid;

use super::Client;
use crate::error::Error;

#[derive(Deserialize)]
struct Operator {
    name: String,
}

impl Client {
    /// Returns the name of the operator whose token this client has; `None` from a service that knows the token and does not
    /// tell the name. Fails with 401 if the service does not know the token.
    pub(crate) async fn operator(&self) -> Result<Option<String>, Error> {
        match self.get::<Operator>(&["operator"], &[]).await {
            Ok(operator) => Ok(Some(operator.name)),
            // An earlier release: the payload of a job is for operators only, also that of one that is not there.
            Err(error) if error.is_not_found() => match self.job(Uuid::nil()).await {
                Ok(_) => Ok(None),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}
